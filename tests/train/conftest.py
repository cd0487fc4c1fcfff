"""What the tests of this folder share: a tiny random judge, and one short real training: verl, vLLM, Ray, on a CPU.

The training is interrupted on purpose after the fifth step, when there are checkpoints of the second and the fourth. A
byte of the fourth's is flipped, and training started again. Its worker is killed after the seventh step, and it goes on
by itself. W&B runs in its offline mode beside it. Nothing here is faked.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pairwise_rm.recipe.model import Recipe
from pairwise_rm.train.attempt_processes import MARK, pids_of
from tests.model_files import save_byte_tokenizer
from tests.paths import REPO
from tests.unit.conftest import make_recipe

__all__ = ["make_recipe"]  # for the tests of engines

TRAININGS = {"test_training", "test_faults", "test_preemption", "test_reward_function", "test_smollm2"}
"""Files that train: one after the other with `-n 2 --dist loadgroup`, since a training takes 10 GB."""

STEPS = 12
DAMAGED, WEIGHTS = 4, "actor/model_world_size_1_rank_0.pt"
"""The checkpoint of which a byte is flipped, and the file."""
SECRETS = {
    "HF_TOKEN": "hf_marked0huggingface0token0aaaaaaaaaaaaa",
    "WANDB_API_KEY": "0123456789abcdefmarkedfedcba987654321000",
    "AWS_SECRET_ACCESS_KEY": "marked+upload+secret/aaaaaaaaaaaaaaaaaaa",
}
"""None of them opens anything; a test looks for them in what the run has written."""
TEMPLATE = "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}<think>"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group("trainings" if item.path.stem in TRAININGS else "engines"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random two-layer Qwen2 over bytes; its template opens the reasoning in the prompt."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("model")
    tokenizer = save_byte_tokenizer(folder, TEMPLATE, eos="<|im_end|>", pad_token="<pad>")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # vLLM's CPU attention wants heads of at least 32
        num_key_value_heads=1,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).to(torch.float32).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def recipe(model: str) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny",
            "device": "cpu",
            "model": {"path": model, "dtype": "float32", "attention": "sdpa"},
            "train": {"tensor_parallel": 1, "gpus_per_node": 1},
            "prompt": {"max_prompt_length": 2000, "max_response_length": 16},
            "evaluate": {"samples": 2, "batch_size": 3, "bootstrap": 100},
        }
    )


@dataclass
class Run:
    root: Path
    options: list[str]
    environment: dict[str, str]
    first_attempt: dict[str, object] = field(default_factory=dict)
    said: str = ""
    """What the second call said, whose worker was killed."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pairwise_rm", *arguments]

    def run(self, *arguments: str, timeout: int = 600) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments, *self.options),
            env=self.environment, cwd=REPO, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        said = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{said}"
        return done

    @property
    def metrics(self) -> list[dict[str, float]]:
        path = self.root / "train" / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def prompts_of_step(self, step: int) -> list[str]:
        path = self.root / "train" / "rollouts" / f"{step}.jsonl"
        return sorted(json.loads(line)["input"] for line in path.read_text().splitlines())


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("run")
    # The model takes most of a minute to make, so a `models/smoke` of `make run` is used where it is there.
    model = REPO / "models" / "smoke" if (REPO / "models" / "smoke" / "made.json").is_file() else root / "model"
    options = [
        f"output_dir={root}", f"model.path={model}", f"data.configs.path={model}/preference.jsonl",
        f"train.steps={STEPS}", "train.save_every=2", "train.loggers=[console, wandb]",
        "train.kl_loss={coef: 0.001, type: low_var_kl}",
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment |= {"WANDB_MODE": "offline", "WANDB_DIR": str(root), "WANDB_SILENT": "true", **SECRETS}
    this = Run(root, options, environment)
    this.run("convert", "smoke")
    _interrupt_after_fifth_step(this)
    _flip_a_byte(root / "train" / "checkpoints" / f"global_step_{DAMAGED}" / WEIGHTS)
    _kill_worker_after_seventh_step(this)
    return this


def _flip_a_byte(path: Path) -> None:
    with open(path, "r+b") as handle:
        handle.seek(path.stat().st_size // 2)
        byte = handle.read(1)[0]
        handle.seek(-1, 1)
        handle.write(bytes([byte ^ 1]))


def _interrupt_after_fifth_step(this: Run) -> None:
    command = this.command("train", "smoke", *this.options, "train.stop_grace=0")  # it would save
    with open(this.root / "first.log", "w") as log:
        process = subprocess.Popen(command, env=this.environment, cwd=REPO, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 900
        while len(this.metrics) < 5:
            assert process.poll() is None, (this.root / "first.log").read_text()
            assert time.monotonic() < end, "the fifth step did not come in 15 minutes"
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    finally:
        if process.poll() is None:
            process.terminate()  # killed, it would leave its driver and Ray running
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
    this.first_attempt = {"code": code, "metrics": this.metrics, "prompts": this.prompts_of_step(3)}


def _kill_worker_after_seventh_step(this: Run) -> None:
    with open(this.root / "second.log", "w") as log:
        process = subprocess.Popen(
            this.command("train", "smoke", *this.options), env=this.environment, cwd=REPO, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + 900
        while len(this.metrics) < 7 or this.metrics[-1]["step"] < 7:
            assert process.poll() is None, (this.root / "second.log").read_text()
            assert time.monotonic() < end, "the seventh step did not come in 15 minutes"
            time.sleep(0.2)
        settings = json.loads((this.root / "train" / "launch.json").read_text())["settings"]
        pids = pids_of(settings["ray_kwargs.ray_init.runtime_env.env_vars"][MARK])
        workers = [pid for pid in pids if b"ray::WorkerDict" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(workers[0], signal.SIGKILL)
        code = process.wait(1500)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    this.said = (this.root / "second.log").read_text()
    assert code == 0, this.said
