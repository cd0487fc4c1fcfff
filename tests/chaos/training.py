"""Faults of a training on a local Ray: processes killed, stopped for good, checkpoints damaged."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pairwise_rm.train.attempt_processes import MARK, pids_of
from pairwise_rm.train.attempts import read_attempts
from tests.chaos.result import Result
from tests.paths import REPO

STEPS, SAVE_EVERY = 20, 2
TRIES = int(os.environ.get("TRIES", "20"))
TARGETS = {
    "training worker": "ray::WorkerDict",
    "vLLM's engine": "VLLM::EngineCore",
    "vLLM's server": "ray::vLLMHttpServer",
    "raylet": "/raylet/raylet",
    "driver": "pairwise_rm.train.verl_driver",
    "task runner": "ray::TaskRunner",
    "TransferQueue's storage": "ray::SimpleStorageUnit",
    "TransferQueue's controller": "ray::TransferQueueController",
    "reward worker": "ray::RewardLoopWorker",
    "agent loop": "ray::AgentLoopWorker",
    "GCS": "/gcs/gcs_server",
}
_HOURS = 3 * 3600


class Training:
    """The smoke recipe in a folder of its own, as a process."""

    def __init__(self, root: Path, *overrides: str) -> None:
        model = REPO / "models" / "smoke" if (REPO / "models/smoke/made.json").is_file() else root / "model"
        self.root, self.train = root, root / "train"
        self.options = [
            "smoke", f"output_dir={root}", f"model.path={model}", f"data.configs.path={model}/preference.jsonl",
            f"train.steps={STEPS}", f"train.save_every={SAVE_EVERY}", *overrides,
        ]  # fmt: skip
        self.environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        self.command("convert")

    def command(self, name: str) -> None:
        command = [sys.executable, "-m", "pairwise_rm", name, *self.options]
        subprocess.run(command, check=True, cwd=REPO, env=self.environment, stdout=subprocess.DEVNULL)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "pairwise_rm", "train", *self.options]
        with open(self.root / "said.log", "ab") as said:
            process = subprocess.Popen(command, cwd=REPO, env=self.environment, stdout=said, stderr=said)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(90)
                except subprocess.TimeoutExpired:
                    process.kill()

    @property
    def said(self) -> str:
        return (self.root / "said.log").read_text(encoding="utf-8")

    @property
    def metrics(self) -> list[dict[str, float]]:
        path = self.train / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    @property
    def attempts(self) -> int:
        path = self.train / "attempts.jsonl"
        return len(path.read_text().splitlines()) if path.is_file() else 0

    @property
    def began(self) -> float:
        """When the newest attempt began."""
        return read_attempts(self.train / "attempts.jsonl")[-1].began

    @property
    def stepped(self) -> float:
        """When the newest step ended."""
        return self.metrics[-1]["time"] if self.metrics else 0.0

    @property
    def phase(self) -> str:
        try:
            return str(json.loads((self.train / "phase.json").read_text())["phase"])
        except (OSError, ValueError):
            return ""

    def processes(self, named: str) -> list[int]:
        """Those of the newest attempt whose command has this in it."""
        settings = json.loads((self.train / "launch.json").read_text())["settings"]
        mark = settings["ray_kwargs.ray_init.runtime_env.env_vars"][MARK]
        return [pid for pid in pids_of(mark) if named in _command(pid)]

    def wait(self, process: subprocess.Popen[bytes], until: Callable[[], bool], seconds: float = 900) -> bool:
        """Whether it came to be before the training ended."""
        end = time.monotonic() + seconds
        while process.poll() is None:
            if until():
                return True
            if time.monotonic() > end:
                raise TimeoutError(f"not in {seconds:g} s; {self.said[-2000:]}")
            time.sleep(0.2)
        return False

    def check_whole(self) -> None:
        """Each step once, in order, up to the last, and the judge has learnt what it learns without faults."""
        steps = [int(line["step"]) for line in self.metrics]
        assert steps == list(range(1, STEPS + 1)), steps
        accuracy = statistics.mean(line["accuracy"] for line in self.metrics[-3:])
        assert accuracy > 0.9, f"accuracy {accuracy:.3f} in the last steps"

    def lost_and_recovery(self) -> tuple[int, float]:
        """The most steps that one interruption cost, and the median of seconds from an end to the next step."""
        attempts = read_attempts(self.train / "attempts.jsonl")
        losses = [one.reached - one.checkpoint for one in attempts if one.reached and one.checkpoint is not None]
        ends = [one.ended for one in attempts[:-1] if one.ended]
        steps = [line["time"] for line in self.metrics]
        times = [min(time for time in steps if time > end) - end for end in ends if steps and steps[-1] > end]
        return max(losses, default=0), statistics.median(times) if times else 0.0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


def _kill(named: str) -> Callable[[Training], bool]:
    def damage(training: Training) -> bool:
        found = training.processes(named)
        if found:
            os.kill(found[0], signal.SIGKILL)
        return bool(found)

    return damage


def killed_at_random() -> Result:
    """Processes of every kind killed with -9 at random moments, `TRIES` of them over one training.

    Half of them while an attempt starts, half after a step that it has made, however long a start takes here.
    """
    chance, done = random.Random(7), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        training = Training(Path(folder))
        names = list(TARGETS)
        with training.running() as process:
            while len(done) < TRIES and process.poll() is None:
                attempts = training.attempts
                training.wait(process, lambda seen=attempts: training.attempts >= max(1, seen))  # type: ignore[misc]
                if chance.random() < 0.5:
                    time.sleep(chance.uniform(5, 60))
                else:
                    training.wait(process, lambda seen=training.began: training.stepped > seen)  # type: ignore[misc]
                    time.sleep(chance.uniform(0, 12))
                name = names[len(done) % len(names)]
                if process.poll() is None and _kill(TARGETS[name])(training):
                    done.append(name)
                    print(f"  killed {name} ({training.phase or 'loading'}, {len(training.metrics)} steps)", flush=True)
                    training.wait(process, lambda seen=training.attempts: training.attempts > seen)  # type: ignore[misc]
            code = process.wait(_HOURS)
        assert code == 0, training.said[-2000:]
        training.check_whole()
        lost, seconds = training.lost_and_recovery()
    return Result(len(done), len(done), lost, seconds, "each step once, accuracy as without faults")


def one_killed(named: str) -> Result:
    """One kind of process, killed in mid-training."""
    with tempfile.TemporaryDirectory() as folder:
        training = Training(Path(folder))
        with training.running() as process:
            training.wait(process, lambda: len(training.metrics) >= 3)
            assert _kill(named)(training), f"no process {named}"
            code = process.wait(_HOURS)
        assert code == 0, training.said[-2000:]
        training.check_whole()
        lost, seconds = training.lost_and_recovery()
        (reason,) = [one.reason for one in read_attempts(training.train / "attempts.jsonl") if one.reason]
    return Result(1, 1, lost, seconds, reason)


def _stopped(named: str, phase: str) -> Result:
    """A process stopped for good (SIGSTOP) in this phase: the watchdog ends the attempt and keeps the stacks."""
    with tempfile.TemporaryDirectory() as folder:
        training = Training(Path(folder))
        with training.running() as process:
            training.wait(process, lambda: len(training.metrics) >= 3 and training.phase == phase)
            found = training.processes(named)
            assert found, f"no process {named}"
            os.kill(found[0], signal.SIGSTOP)
            code = process.wait(_HOURS)
        assert code == 0, training.said[-2000:]
        training.check_whole()
        lost, seconds = training.lost_and_recovery()
        hung = [one for one in read_attempts(training.train / "attempts.jsonl") if one.outcome == "hung"]
        stacks = "".join(path.read_text() for path in (training.train / "stacks").glob("*.txt"))
        assert len(hung) == 1, hung
        assert f"process {found[0]}" in stacks
    return Result(1, 1, lost, seconds, (hung[0].reason or "").partition("; stacks")[0])


def worker_stopped() -> Result:
    """The training worker stopped for good during the update."""
    return _stopped(TARGETS["training worker"], "update")


def sync_that_never_returns() -> Result:
    """vLLM's engine stopped for good as the weights are sent to it: stock verl waits for it without an end."""
    return _stopped(TARGETS["vLLM's engine"], "weight sync")


FAULTS: dict[str, Callable[[], Result]] = {
    "worker killed in mid-training": lambda: one_killed(TARGETS["training worker"]),
    "any process killed, at random": killed_at_random,
    "training worker stopped for good": worker_stopped,
    "a weight sync that never returns": sync_that_never_returns,
}
