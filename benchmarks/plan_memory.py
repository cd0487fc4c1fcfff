"""`pairwise-rm plan`'s memory against what a training process takes, on a CPU in float32.

    python benchmarks/plan_memory.py                # two short trainings through verl: 20 minutes on two cores
    python benchmarks/plan_memory.py --passes       # one FSDP2 rank in this process, without verl: 2 minutes
    python benchmarks/plan_memory.py --keep runs/plan-memory

**A run.** The smoke recipe with a model of Qwen2's shape and about 100 M random weights, made here with the smoke
model's tokenizer, so that the parts outweigh the process. The anonymous resident memory of verl's worker (RssAnon,
without libraries and shared memory) is read every 20 ms. It goes to the phase that `train/phase.json` names, from the
second step on, when the optimizer has its moments. The baseline of a phase is the same of the smoke model itself, 0.5 M
weights, with the same settings; compared is the difference of both runs with the difference of both plans.

**The passes.** What verl's FSDP engine does with one rank, and nothing else: two models, `fully_shard` on the same
modules, log-probabilities by verl's functions, AdamW. The baseline is this process after the same with a tiny model.

glibc keeps freed memory unless told otherwise; MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ make it return it, so
that one phase's peak is not counted for the next one. Exit code 1: a phase is more than 15 % off.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairwise_rm.plan.layout import Layout
from pairwise_rm.plan.memory import gpu_memory
from pairwise_rm.plan.model_shape import ModelShape
from pairwise_rm.recipe.load import load_recipe

BOUND = 0.15
STEPS = 4
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
_CONFIG: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 10,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "vocab_size": 8192,
    "tie_word_embeddings": False,
}
_PHASES = {
    "rollouts": "rollout",
    "log-probabilities": "old log-probabilities",
    "log-probabilities of the reference": "reference log-probabilities",
    "update": "update",
}
"""Phases of phase.json that the plan has for a CPU."""
_WORKER = "ray::WorkerDict"
_SETTINGS = (
    *("train.batch_size=8", "train.mini_batch_size=4", "train.rollouts=4", "train.micro_batch_size_per_gpu=8"),
    *("train.log_prob_micro_batch_size_per_gpu=16", "train.gradient_checkpointing=true", f"train.steps={STEPS}"),
    # Random weights know neither the format nor vLLM's kernels.
    *("train.save_every=100", "train.max_probs_diff=1.0", "train.max_probs_diff_mean=1.0"),
    "train.min_probs_correlation=-1.0",
)


def plan_of(overrides: list[str], config: dict[str, Any]) -> dict[str, int]:
    """Bytes of each phase, as planned."""
    layout = Layout.of(load_recipe("smoke", overrides))
    memory = gpu_memory(ModelShape.of_config("benchmark", config), layout, None)
    return {peak.phase: peak.total for peak in memory.peaks}


# ---- a whole run -----------------------------------------------------------------------------------------------------


def make_model(folder: Path, smoke: Path) -> None:
    """Random weights of _CONFIG with the tokenizer of the smoke model."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(1)
    tokens = json.loads((smoke / "config.json").read_text())
    ends = {key: tokens[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = Qwen2Config(**{key: value for key, value in _CONFIG.items() if key != "model_type"}, **ends)
    AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
    for file in smoke.iterdir():
        if file.name.startswith("tokenizer") or file.name in ("chat_template.jinja", "generation_config.json"):
            shutil.copy(file, folder / file.name)


def run(model: Path, smoke: Path, folder: Path) -> tuple[list[str], dict[str, int]]:
    """Trains, and returns the recipe's overrides and the worker's peak of each phase.

    Raises CalledProcessError when the training fails.
    """
    overrides = [
        *(f"model.path={model}", "model.make=null", f"data.configs.path={smoke / 'preference.jsonl'}"),
        *(f"output_dir={folder}", *_SETTINGS),
    ]
    environment = {**os.environ, **_MALLOC}
    subprocess.run([sys.executable, "-m", "pairwise_rm", "convert", "smoke", *overrides], check=True, env=environment)
    before = set(_workers())
    command = [sys.executable, "-m", "pairwise_rm", "train", "smoke", *overrides]
    peaks: dict[str, int] = {}
    with subprocess.Popen(command, env=environment) as training:
        while training.poll() is None:
            phase = _phase(folder / "train" / "phase.json")
            for pid in set(_workers()) - before if phase else ():
                peaks[str(phase)] = max(peaks.get(str(phase), 0), _anonymous(pid))
            time.sleep(0.02)
    if training.returncode:
        raise subprocess.CalledProcessError(training.returncode, command)
    return overrides, peaks


def _phase(file: Path) -> str | None:
    """The plan's name of the phase that runs, from the second step on."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return _PHASES.get(found["phase"]) if found["step"] >= 2 else None


def _workers() -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "cmdline").read_bytes().startswith(_WORKER.encode()):
                    yield int(folder.name)
            except OSError:
                continue


def _anonymous(pid: int) -> int:
    """Bytes of a process that no file and no shared memory backs; 0 when it has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def whole_runs(root: Path) -> dict[str, tuple[int, int]]:
    """(measured, planned) of each phase: the large model's less the small one's."""
    smoke, large = root / "smoke", root / "large"
    subprocess.run([sys.executable, "-m", "pairwise_rm", "models", "smoke", "--out", str(smoke)], check=True)
    if not large.exists():
        make_model(large, smoke)
    measured, planned = [], []
    for model in (large, smoke):
        overrides, peaks = run(model, smoke, root / f"run-{model.name}")
        measured.append(peaks)
        planned.append(plan_of(overrides, json.loads((model / "config.json").read_text())))
    (much, little), (more, less) = measured, planned
    return {phase: (much[phase] - little[phase], more[phase] - less[phase]) for phase in more if phase in much}


# ---- one rank, without verl's trainer -----------------------------------------------------------------------------


@contextmanager
def _watched(read: Callable[[], int]) -> Iterator[list[int]]:
    """A list with the largest value of `read` so far, read every 3 ms."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.003):
            peak[0] = max(peak[0], read())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def passes(samples: int, tokens: int) -> dict[str, tuple[int, int]]:
    """(measured, planned) of each phase, of micro-batches of that many samples with that many tokens."""
    import torch
    import torch.distributed as dist
    import verl.utils.torch_functional as verl_functions
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
    from transformers import AutoModelForCausalLM, Qwen2Config

    # Pinned memory needs an accelerator; pairwise_rm.cpu does the same.
    CPUOffloadPolicy.__init__ = lambda self, pin_memory=False: object.__setattr__(self, "pin_memory", False)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29791", "RANK": "0", "WORLD_SIZE": "1"}
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (1,))

    def build(config: dict[str, Any], reference: bool) -> Any:
        known = Qwen2Config(**{key: value for key, value in config.items() if key != "model_type"})
        model = AutoModelForCausalLM.from_config(known).float()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        exact = MixedPrecisionPolicy(param_dtype=torch.float32, reduce_dtype=torch.float32, cast_forward_inputs=True)
        options = {"mesh": mesh, "mp_policy": exact, "reshard_after_forward": True}
        options["offload_policy"] = CPUOffloadPolicy() if reference else None
        for name, module in model.named_modules():
            if type(module).__name__ == "Qwen2DecoderLayer" or name.rpartition(".")[2] in ("embed_tokens", "lm_head"):
                fully_shard(module, **options)
        fully_shard(model, **options)
        return model

    def log_probs(model: Any, vocab: int, shape: tuple[int, int], entropy: bool, train: bool) -> Any:
        ids = torch.randint(0, vocab, shape)
        with torch.enable_grad() if train else torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            if entropy:
                verl_functions.entropy_from_logits(logits)
            starts, lengths = torch.zeros(shape[0], dtype=torch.int64), torch.full((shape[0],), shape[1])
            nested = torch.nested.narrow(logits, 1, starts, lengths, layout=torch.jagged)
            logits = torch.cat(list(nested.unbind()))
            return verl_functions.logprobs_from_logits_v2(logits, torch.roll(ids.reshape(-1), -1))

    def update(model: Any, optimizer: Any, vocab: int, shape: tuple[int, int]) -> None:
        for _ in range(2):
            log_probs(model, vocab, shape, entropy=False, train=True).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    def peaks(config: dict[str, Any], shape: tuple[int, int]) -> dict[str, int]:
        vocab, reference, actor = config["vocab_size"], build(config, True), build(config, False)
        optimizer = torch.optim.AdamW(actor.parameters(), lr=1e-6)
        update(actor, optimizer, vocab, shape)  # makes the moments
        works: dict[str, Callable[[], Any]] = {
            "old log-probabilities": lambda: log_probs(actor, vocab, shape, entropy=True, train=False),
            "reference log-probabilities": lambda: log_probs(reference, vocab, shape, entropy=False, train=False),
            "update": lambda: update(actor, optimizer, vocab, shape),
        }
        found = {}
        with _watched(lambda: _anonymous(os.getpid())) as peak:
            for name, work in works.items():
                gc.collect()
                peak[0] = 0
                work()
                time.sleep(0.02)
                found[name] = peak[0]
        return found

    tiny = {**_CONFIG, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 64}
    peaks(tiny, (2, 8))
    gc.collect()
    base = _anonymous(os.getpid())
    measured = peaks(_CONFIG, (samples, tokens))
    settings = [
        *(f"train.micro_batch_size_per_gpu={samples}", f"train.log_prob_micro_batch_size_per_gpu={samples}"),
        *("train.gradient_checkpointing=true", f"prompt.max_prompt_length={tokens - 8}"),
        *("prompt.max_response_length=8", f"train.batch_size={samples}", f"train.mini_batch_size={samples}"),
    ]
    planned = plan_of(settings, _CONFIG)
    return {phase: (size - base, planned[phase]) for phase, size in measured.items()}


# ---- the table -------------------------------------------------------------------------------------------------------


def table(found: dict[str, tuple[int, int]]) -> str:
    lines = [f"{'phase':<28} {'measured MiB':>13} {'planned MiB':>12} {'off by':>8}"]
    for phase, (measured, planned) in found.items():
        lines.append(
            f"{phase:<28} {measured / 2**20:>13,.0f} {planned / 2**20:>12,.0f} {planned / measured - 1:>+8.1%}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", action="store_true", help="one FSDP2 rank in this process instead of two runs")
    parser.add_argument("--samples", type=int, default=4, help="with --passes: samples of a micro-batch")
    parser.add_argument("--tokens", type=int, default=128, help="with --passes: tokens of a sample")
    parser.add_argument("--keep", type=Path, help="folder for the models and runs; default: a temporary one")
    given = parser.parse_args()
    if given.passes and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        # glibc reads them when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_MALLOC, "TORCHDYNAMO_DISABLE": "1"})
    if given.passes:
        found = passes(given.samples, given.tokens)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            found = whole_runs((given.keep or Path(temporary)).absolute())
    print()
    print(table(found))
    if not found or any(abs(planned / measured - 1) > BOUND for measured, planned in found.values()):
        sys.exit(f"a phase is more than {BOUND:.0%} off")


if __name__ == "__main__":
    main()
