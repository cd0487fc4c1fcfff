"""What pairwise-rm adds to verl's own training, at its start and in each step: one command, one table.

    python benchmarks/overhead.py [--pairs 3] [--steps 20]

**Input.** The smoke recipe, on this machine's CPU: `models/smoke` where `make run` has made it, else one that is made
here. Both sides train from the same weights, on the same rows, with the same seeds and the same verl keys.

**Measured.** Whole trainings in turn, ours first in odd pairs and last in even ones, each with a Ray of its own.
  ours    `pairwise-rm train`: preflight, supervisor, watchdog, phases, metrics, the comparison of the weights after
          each sync, checkpoints with checksums that are read back.
  stock   `verl.trainer.main_ppo.run_ppo` with the keys that ours has used, without what stands in ours alone: our
          task runner, checkpoint callback, sampler and `pairwise.*`. The dataset, the reward and what lets verl run on
          a CPU stay, since nothing would train without them.
Times are those at which verl's console line of a step stands in the log. A step's is the time between two lines, over
all steps but the first two; the first step's is counted from the start of the process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

REPO = Path(__file__).resolve().parents[1]
WARM_UP = 2
AIM_SHARE, AIM_START = 0.02, 2.0

STOCK = """
import json, sys
from verl.trainer.main_ppo import run_ppo
from pairwise_rm.train.verl_schema import load_tree, merged
from pairwise_rm.train.verl_settings import Setting
run_ppo(merged(load_tree(), [Setting(key, value) for key, value in json.load(open(sys.argv[1])).items()]))
"""
OURS_ALONE = ("pairwise.", "trainer.checkpoint_callback_class", "trainer.v1.sampler.custom_sampler.")
_STEP = re.compile(rb"\bstep:(\d+) - ")


class Timing(NamedTuple):
    """`first`: seconds from the start of the process to the end of step 1; `steps`: seconds of each later one."""

    first: float
    steps: list[float]

    @property
    def step(self) -> float:
        return statistics.mean(self.steps[WARM_UP - 1 :])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args(arguments)
    pairs: list[tuple[Timing, Timing]] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        recipe = recipe_of(root, options.steps)
        subprocess.run([*command("convert"), *recipe], check=True, cwd=REPO, stdout=subprocess.DEVNULL)
        launch = keys_of(root, recipe)
        for number in range(1, options.pairs + 1):
            sides = {"ours": lambda: ours(root, recipe), "stock": lambda: stock(root, launch)}
            order = ("ours", "stock") if number % 2 else ("stock", "ours")
            found = {side: sides[side]() for side in order}
            pairs.append((found["ours"], found["stock"]))
            print(f"pair {number}: ours {_line(found['ours'])}; stock {_line(found['stock'])}", flush=True)
    return report(pairs)


def recipe_of(root: Path, steps: int) -> list[str]:
    model = REPO / "models" / "smoke" if (REPO / "models/smoke/made.json").is_file() else root / "model"
    return [
        "smoke", f"output_dir={root}", f"model.path={model}", f"data.configs.path={model}/preference.jsonl",
        f"train.steps={steps}", f"train.save_every={steps // 2}",
    ]  # fmt: skip


def command(name: str) -> list[str]:
    return [sys.executable, "-m", "pairwise_rm", name]


def keys_of(root: Path, recipe: list[str]) -> dict[str, Any]:
    """verl's keys as `pairwise-rm train` gives them, without what only our trainer reads."""
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from pairwise_rm.recipe.load import load_recipe\n"
        "from pairwise_rm.run_folder import RunFolder\n"
        "from pairwise_rm.train import run\n"
        "from pairwise_rm.train.preflight import preflight\n"
        "recipe = load_recipe(sys.argv[1], sys.argv[2:])\n"
        "folder = RunFolder.of(recipe)\n"
        "facts = preflight(recipe, folder)\n"
        "found = [*run.resolve(recipe, folder, facts.thinking, facts.steps), *run._resume(None),"
        " *run._local_ray(recipe)]\n"
        "print(json.dumps({one.key: one.value for one in found}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *recipe], check=True, cwd=REPO, stdout=subprocess.PIPE, text=True
    )
    keys = json.loads(done.stdout.splitlines()[-1])
    moved = str(root / "train"), str(root / "stock")
    return {
        key: value.replace(*moved) if isinstance(value, str) else value
        for key, value in keys.items()
        if not key.startswith(OURS_ALONE)
    }


def ours(root: Path, recipe: list[str]) -> Timing:
    shutil.rmtree(root / "train", ignore_errors=True)
    with open(root / "said.log", "w") as said:
        return timed([*command("train"), *recipe], root / "train" / "train.log", said)


def stock(root: Path, keys: dict[str, Any]) -> Timing:
    folder = root / "stock"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "keys.json").write_text(json.dumps(keys))
    log = folder / "train.log"
    with open(log, "w") as said:
        return timed([sys.executable, "-c", STOCK, str(folder / "keys.json")], log, said)


def timed(arguments: list[str], log: Path, said: Any) -> Timing:
    """Runs it to its end, and notes when each step's line was written."""
    from pairwise_rm import cpu

    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | cpu.environment()
    began, times = time.monotonic(), list[float]()
    process = subprocess.Popen(arguments, cwd=REPO, env=environment, stdout=said, stderr=said)
    try:
        while True:
            ended = process.poll() is not None
            written = {int(found) for found in _STEP.findall(log.read_bytes())} if log.is_file() else set()
            times += [time.monotonic() - began] * (len(written) - len(times))
            if ended:
                break
            time.sleep(0.05)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    if process.returncode or len(times) < WARM_UP + 2:
        sys.exit(f"{' '.join(arguments[:4])}: exit {process.returncode}\n{log.read_text()[-3000:]}")
    return Timing(times[0], [late - early for early, late in itertools.pairwise(times)])


def report(pairs: list[tuple[Timing, Timing]]) -> int:
    table = Table("", "ours", "stock", "ratio", title=f"{os.cpu_count()} cores, {len(pairs)} pairs, medians")
    steps = [statistics.median(one[side].step for one in pairs) for side in (0, 1)]
    first = [statistics.median(one[side].first for one in pairs) for side in (0, 1)]
    share = statistics.median(mine.step / theirs.step for mine, theirs in pairs) - 1
    later = statistics.median(mine.first - theirs.first for mine, theirs in pairs)
    table.add_row("s a step", *(f"{value:.2f}" for value in steps), f"{1 + share:.3f}")
    table.add_row("s to the end of step 1", *(f"{value:.1f}" for value in first), f"{first[0] / first[1]:.3f}")
    Console(width=100).print(table)
    print(f"our share of a step: {share:+.1%} (aim: at most {AIM_SHARE:.0%}), the median of the pairs' ratios")
    print(f"the first step comes {later:+.1f} s after stock's (aim: at most {AIM_START:+.0f} s)")
    return 0


def _line(timing: Timing) -> str:
    return f"{timing.first:.1f} s to step 1, {timing.step:.2f} s a step"


if __name__ == "__main__":
    sys.exit(main())
