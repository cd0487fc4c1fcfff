"""Damage to convert, merge and export, done for real: kills, and a volume that is full.

    PYTHONPATH=$PWD .venv/bin/python -m tests.chaos.stages [NAME...]

Each fault returns how often it was done, how often all was well after it, and a note; or it raises AssertionError with
what was not. A full volume is a small tmpfs in a mount namespace of its own, which needs root or user namespaces.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Result = tuple[int, int, str]
"""Tries, survived, a note."""

KILLS = 50
ROWS = 3000
"""Enough that a conversion takes longer than starting it."""


# ---- inputs --------------------------------------------------------------------------------------


def source(path: Path, rows: int, mark: str) -> Path:
    """HelpSteer2 rows; `mark` makes those of one file another content than those of another file."""
    with path.open("w") as handle:
        for number in range(rows):
            row = {
                "split": "val" if number % 4 == 3 else "train",
                "prompt": f"What is {number} and one, {mark}?",
                "response_1": f"It is {number + 1}. " * 20,
                "response_2": f"I do not know {number}. " * 20,
                "preference_strength": -2,
            }
            handle.write(json.dumps(row) + "\n")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, hidden ones as well; the lock of a process that was killed apart."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CONVERT = """
import sys
from pathlib import Path
from pairwise_rm.convert.run import convert
from pairwise_rm.recipe.model import DatasetConfig
print("begin", flush=True)
convert(DatasetConfig.model_validate({"configs": {"path": sys.argv[1]}}), Path(sys.argv[2]), overwrite=True)
"""


def converted(path: Path, output: Path) -> dict[str, bytes]:
    subprocess.run([sys.executable, "-c", CONVERT, str(path), str(output)], check=True, capture_output=True)
    return contents(output)


def kept(whole: dict[str, bytes], folder: Path) -> bool:
    found = contents(folder)
    return all(found.get(name) == content for name, content in whole.items())


def killed_at(command: list[str], moment: float) -> bool:
    """Starts it, and kills it and all that it started this long after its first line; False if it ended before."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begin\n"
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    return process.wait() == -signal.SIGKILL


def seconds_of(command: list[str]) -> float:
    """From its first line to its end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begin\n"
    began = time.monotonic()
    assert process.wait() == 0
    process.stdout.close()
    return time.monotonic() - began


# ---- kills ---------------------------------------------------------------------------------------


def fault_convert_killed_at_random(kills: int = KILLS, rows: int = ROWS) -> Result:
    """Old or new output for the stages that read it, never a mix; the next conversion leaves nothing behind."""
    from pairwise_rm.convert.output_folder import finish

    chance, killed, ended = random.Random(0), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = [source(folder / f"{mark}.jsonl", rows, mark) for mark in ("old", "new")]
        output = folder / "out"
        wholes = [converted(path, output) for path in sources]
        took = seconds_of([sys.executable, "-c", CONVERT, str(sources[1]), str(output)])
        (output / "mine.txt").write_text("mine")
        now, seen = 1, [0, 0]
        while killed < kills and ended < kills:
            command = [sys.executable, "-c", CONVERT, str(sources[1 - now]), str(output)]
            if killed_at(command, chance.uniform(0, took)):
                killed += 1
            else:
                ended += 1
            finish(output)
            found = [kept(whole, output) for whole in wholes]
            assert any(found), f"a mix: {sorted(contents(output))}"
            now = found.index(True)
            seen[now] += 1
        converted(sources[0], output)
        assert contents(output) == {**wholes[0], "mine.txt": b"mine"}, f"left over: {sorted(contents(output))}"
    return killed, killed, f"and {ended} that ended before the kill; old {seen[0]}, new {seen[1]}"


AT_EVERY_STEP = """
import json, os, signal, sys
CHANGES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "ctypes.call_function"}
def at_every_step(action, reset, check):
    "Forks for each change of the file system that `action` makes, and kills the child right before it."
    step, states = 0, []
    while True:
        step += 1
        reset()
        child = os.fork()
        if not child:
            left = step
            def hook(event, arguments):
                nonlocal left
                if event in CHANGES:
                    left -= 1
                    if not left:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(hook)
            try:
                action()
            except BaseException as error:
                print("error", error, flush=True)
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        states.append(check())
        if status == 0:
            return states
"""

CONVERT_STEPS = (
    AT_EVERY_STEP
    + """
import shutil
from pathlib import Path
import pyarrow.parquet  # once, and not in each child
from pairwise_rm.convert import row_columns, table_rows
from pairwise_rm.convert.output_folder import finish
from pairwise_rm.convert.run import convert
from pairwise_rm.recipe.model import DatasetConfig
from tests.chaos.stages import contents, kept, source
folder = Path(sys.argv[1])
output, first = folder / "out", sys.argv[2] == "first"
configs = [
    DatasetConfig.model_validate({"configs": {"path": str(source(folder / f"{mark}.jsonl", 40, mark))}})
    for mark in ("old", "new")
]
wholes = []
for config in configs:
    # In processes of their own: threads do not come along into the children that are killed.
    child = os.fork()
    if not child:
        convert(config, output, overwrite=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    wholes.append(contents(output))
    shutil.rmtree(output)
if first:
    wholes[0] = {}
def reset():
    shutil.rmtree(output, ignore_errors=True)
    for name, content in wholes[0].items():
        output.mkdir(exist_ok=True)
        (output / name).write_bytes(content)
def check():
    finish(output)
    visible = {name: content for name, content in contents(output).items() if not name.startswith(".")}
    assert visible in wholes, sorted(visible)
    state = wholes.index(visible)
    child = os.fork() if "and again" in sys.argv else None  # it can be done, whatever was left
    if child is None:
        return state
    if not child:
        convert(configs[1], output, overwrite=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert contents(output) == wholes[1], sorted(contents(output))
    return state
print(json.dumps(at_every_step(lambda: convert(configs[1], output, overwrite=True), reset, check)))
"""
)


def steps(script: str, *arguments: str) -> list[int]:
    """What was there after each kill of a child: 0 is the old output, 1 the new one."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-c", script, name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    states: list[int] = json.loads(done.stdout.splitlines()[-1])
    assert states == sorted(states), f"back to the old one: {states}"
    assert states[0] == 0
    assert states[-1] == 1
    return states


def fault_convert_killed_at_every_step() -> Result:
    """Before each change that it makes in its folder: with an output there, and without."""
    states = [*steps(CONVERT_STEPS, "second", "and again"), *steps(CONVERT_STEPS, "first", "and again")]
    return len(states), len(states), f"old {states.count(0)}, new {states.count(1)}"


FOLDER_STEPS = (
    AT_EVERY_STEP
    + """
import shutil
from pathlib import Path
from pairwise_rm import atomic_io
from tests.chaos.stages import contents
if sys.argv[2] == "renamed":
    atomic_io._exchange = lambda one, other: False  # as on NFS
target = Path(sys.argv[1]) / "export"
wholes = [{name: mark for name in ("a.txt", "deep/b.txt")} for mark in (b"old", b"new")]
def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
def reset():
    shutil.rmtree(target, ignore_errors=True)
    write(target, wholes[0])
def action():
    with atomic_io.atomic_folder(target) as temporary:
        write(temporary, wholes[1])
def check():
    if sys.argv[2] == "renamed":
        atomic_io.recover(target)
    state = wholes.index(contents(target))
    atomic_io.recover(target)
    assert os.listdir(target.parent) == ["export"], os.listdir(target.parent)
    return state
print(json.dumps(at_every_step(action, reset, check)))
"""
)


def fault_folder_killed_at_every_step() -> Result:
    """What merge, export and the evaluation write through; also where two folders cannot be exchanged in one step."""
    states = [*steps(FOLDER_STEPS, "exchanged"), *steps(FOLDER_STEPS, "renamed")]
    return len(states), len(states), f"old {states.count(0)}, new {states.count(1)}"


# ---- merge and export ----------------------------------------------------------------------------


def run_with_checkpoint(folder: Path, weights: int = 1 << 18) -> Path:
    """A run with one sealed checkpoint of random weights, made as verl and FSDP make them on one rank; its recipe."""
    import torch

    from pairwise_rm.recipe.load import load_recipe, recipe_yaml
    from pairwise_rm.train import checkpoints
    from tests.model_files import save_byte_tokenizer

    run, model = folder / "run", folder / "model"
    model.mkdir(parents=True)
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    save_byte_tokenizer(model, template, eos="<|im_end|>", pad_token="<pad>")
    (model / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    recipe = load_recipe("smoke", [f"output_dir={run}", f"model.path={model}", "model.make=null"])
    (run / "train").mkdir(parents=True)
    (run / "train" / "recipe.yaml").write_text(recipe_yaml(recipe))
    (folder / "recipe.yaml").write_text(recipe_yaml(recipe))
    add_checkpoint(run, model, 1, torch.full((weights,), 1.0))
    assert checkpoints.newest(run / "train" / "checkpoints")
    return folder / "recipe.yaml"


def add_checkpoint(run: Path, model: Path, step: int, weights: Any) -> None:
    import torch

    from pairwise_rm.train import checkpoints

    step_folder = run / "train" / "checkpoints" / f"global_step_{step}"
    actor = step_folder / "actor"
    shutil.copytree(model, actor / "huggingface")
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 1}))
    torch.save({"w": weights}, actor / "model_world_size_1_rank_0.pt")
    checkpoints.seal(step_folder)
    checkpoints.seal_with_checksums(step_folder)
    checkpoints.point_latest_at(step_folder)


EXPORT = """
import sys
from pathlib import Path
from pairwise_rm.export import run
from pairwise_rm.recipe.load import load_recipe
recipe = load_recipe(sys.argv[1])
if sys.argv[2] != "ray":
    # Ray takes seconds to start, in which nothing is written; a few kills go through it.
    run._merge_in_ray = lambda recipe, actor, target: run._merge_task(str(actor), str(target), run._dtype(recipe), None)
    import safetensors.torch
print("begin", flush=True)
run.export(recipe)
"""


def fault_export_killed_at_random(kills: int = 20, with_ray: int = 3) -> Result:
    """Merged weights and export: those of the checkpoint before or of the new one, whole."""
    import torch
    from safetensors.torch import load_file

    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = run_with_checkpoint(folder, weights=1 << 22)
        run = folder / "run"
        seen: list[int] = []
        took = {"ray": 12.0, "here": 0.0}
        for number in range(1, kills + with_ray + 1):
            how = "ray" if number > kills else "here"
            command = [sys.executable, "-c", EXPORT, str(recipe), how]
            if number == 1:
                took["here"] = seconds_of(command)
                before = dict.fromkeys(("merged", "export"), 1)
            step = number + 1
            add_checkpoint(run, folder / "model", step, torch.full((1 << 22,), float(step)))
            killed_at(command, chance.uniform(0, took[how]))
            for part in ("merged", "export"):
                tensors, record = (
                    load_file(run / part / "model.safetensors"),
                    json.loads((run / part / "merged.json").read_text()),
                )
                held = record["merge"]["step"]
                assert held in (before[part], step), f"{part}: of step {held}"
                assert bool((tensors["w"] == held).all()), f"{part}: not the weights of step {held}"
                before[part] = held
            assert before["export"] <= before["merged"]
            seen.append(before["export"])
            shutil.rmtree(run / "train" / "checkpoints" / f"global_step_{step - 1}", ignore_errors=True)
        subprocess.run([sys.executable, "-c", EXPORT, str(recipe), "here"], check=True, capture_output=True)
        left = [path.name for path in run.iterdir() if path.name.startswith(".")]
        assert not left, f"left over: {left}"
    tries = kills + with_ray
    return tries, tries, f"{with_ray} of them with Ray; {len(set(seen))} exports were new"


# ---- full volumes --------------------------------------------------------------------------------


def on_small_volume(script: str, size: str, *arguments: str, timeout: float = 300) -> str:
    """Runs the script with `volume`, a tmpfs of this size, as its first argument; its output."""
    with tempfile.TemporaryDirectory() as name:
        mount = f'mount -t tmpfs -o size={size} none "$1" && exec "$2" -c "$3" "$1" "${{@:4}}"'
        space = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
        command = [*space, "bash", "-c", mount, "-", name, sys.executable, script, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def small_volumes_can_be_made() -> bool:
    try:
        on_small_volume("", "1m")
    except (AssertionError, OSError):
        return False
    return True


FULL_CONVERT = """
import shutil, subprocess, sys
from pathlib import Path
from tests.chaos.stages import contents, converted, kept, source
volume, elsewhere = Path(sys.argv[1]), Path(sys.argv[2])
old, new = source(elsewhere / "old.jsonl", 200, "old"), source(elsewhere / "new.jsonl", 60000, "new")
output = volume / "out"
before = converted(old, output)
filler = volume / "filler"
filler.write_bytes(bytes(shutil.disk_usage(volume).free - (300 << 10)))
command = [sys.executable, "-m", "pairwise_rm", "convert", "--config", str(elsewhere / "config.yaml"), "--overwrite"]
configs = f"{{path: {new}, source: helpsteer2_pairwise}}"
export = f"{{output_dir: {output}, split: official}}"
(elsewhere / "config.yaml").write_text(f"dataset: {{configs: {configs}, export: {export}}}")
done = subprocess.run(command, capture_output=True, text=True)
assert done.returncode == 1, (done.returncode, done.stderr)
assert done.stderr == f"error: {output}: cannot be written: No space left on device\\n", done.stderr
assert contents(output) == before, sorted(contents(output))
filler.unlink()
done = subprocess.run(command, capture_output=True, text=True)
assert done.returncode == 0, done.stderr
assert not kept(before, output)
"""


def fault_volume_full_during_convert() -> Result:
    """One line and exit code 1, the old output whole; with room it goes on."""
    with tempfile.TemporaryDirectory() as name:
        on_small_volume(FULL_CONVERT, "16m", name)
    return 1, 1, "a tmpfs of 16 MiB"


FULL_EXPORT = """
import os, shutil, subprocess, sys
from pathlib import Path
import torch
from tests.chaos.stages import add_checkpoint, contents, run_with_checkpoint
volume = Path(sys.argv[1])
recipe = run_with_checkpoint(volume)
environment = {**os.environ, "RAY_TMPDIR": "/tmp"}
command = [sys.executable, "-m", "pairwise_rm", "export", str(recipe)]
done = subprocess.run(command, capture_output=True, text=True, env=environment)
assert done.returncode == 0, done.stderr
run = volume / "run"
before = {name: contents(run / name) for name in ("merged", "export")}
add_checkpoint(run, volume / "model", 2, torch.full((1 << 18,), 2.0))
filler = volume / "filler"
filler.write_bytes(bytes(shutil.disk_usage(volume).free - (100 << 10)))
done = subprocess.run(command, capture_output=True, text=True, env=environment)
assert done.returncode == 1, (done.returncode, done.stderr)
assert done.stderr == f"error: {run}/merged: cannot be written: No space left on device\\n", done.stderr
assert before == {name: contents(run / name) for name in before}
assert not [path for path in run.iterdir() if path.name.startswith(".")]
filler.unlink()
done = subprocess.run(command, capture_output=True, text=True, env=environment)
assert done.returncode == 0, done.stderr
assert all(before[name] != contents(run / name) for name in before)
"""


def fault_volume_full_during_export() -> Result:
    """The same for the merge of a checkpoint, through Ray."""
    on_small_volume(FULL_EXPORT, "24m", timeout=900)
    return 1, 1, "a tmpfs of 24 MiB; the merge is a Ray task"


# ---- the table -----------------------------------------------------------------------------------

FAULTS: dict[str, Callable[[], Result]] = {
    name.removeprefix("fault_"): value for name, value in list(globals().items()) if name.startswith("fault_")
}


def main(names: list[str]) -> int:
    from rich.console import Console
    from rich.table import Table

    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        print(f"no fault {unknown[0]}: expected some of {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    table = Table("fault", "tries", "survived", "seconds", "note")
    failed = 0
    for name in names or FAULTS:
        began = time.monotonic()
        try:
            tries, survived, note = FAULTS[name]()
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            tries, survived, note = 1, 0, f"{type(error).__name__}: {str(error)[-1500:]}"
        failed += tries != survived
        table.add_row(name, str(tries), str(survived), f"{time.monotonic() - began:.0f}", note)
    Console().print(table)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
