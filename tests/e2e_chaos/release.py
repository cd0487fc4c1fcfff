"""A release of the kind preset that is followed step by step: its log, its metrics, its pods."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.kube import ENDED, GPU, Namespace, nodes_have_gpus, pairwise_rm, state_of, succeeded, wait_for
from tests.e2e_chaos.survival import SURVIVED, TRIED, Survival
from tests.paths import CHART

SAVE_EVERY = 2
LEARNT = 0.9
"""Mean accuracy of the last three steps, which a training of twenty reaches without faults."""
NAME = "judge"
Object = dict[str, Any]


@dataclass
class Release:
    """`steps`: how long it trains; few where only its start is damaged. `presets` go over the kind preset, in order."""

    namespace: Namespace
    steps: int = 20
    presets: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    _recovered: list[tuple[str, float]] = field(default_factory=list)

    def install(self, *settings: str, verb: str = "install") -> None:
        """`settings` are KEY=VALUE; those of an upgrade are added to those before."""
        self.settings += settings
        recipe = (f"recipe.overrides.train.steps={self.steps}", f"recipe.overrides.train.save_every={SAVE_EVERY}")
        gpus = (f"poolDefaults.gpuResource={GPU}",) if nodes_have_gpus() else ()
        given = [part for setting in (*recipe, *gpus, *self.settings) for part in ("--set", setting)]
        values = [part for name in ("kind", *self.presets) for part in ("--values", str(CHART / f"values-{name}.yaml"))]
        self.namespace.helm(verb, NAME, str(CHART), *values, *given)

    def upgrade(self, *settings: str) -> None:
        self.install(*settings, verb="upgrade")

    # ---- looking -----------------------------------------------------------------------------------

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> float:
        return wait_for(done, seconds, what, self.namespace.describe)

    def pods(self, selector: str) -> list[str]:
        """Names of the pods that run and are not being deleted."""
        found = self.namespace.items(f"pods --selector={selector}")
        alive = [
            pod for pod in found if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]
        return [pod["metadata"]["name"] for pod in alive]

    def head(self) -> str:
        [name] = self.pods("ray.io/node-type=head")
        return name

    def log(self, stage: str = "train") -> str:
        """The logs of the stage's submitters."""
        return self.namespace.kubectl("logs", f"--selector=pairwise-rm.io/stage={stage}", "--tail=-1", code=None)

    def finished(self, stage: str = "train") -> list[int]:
        """The steps that training has finished."""
        log = self.log(stage)
        return [int(found) for found in re.findall(r"\bstep (\d+)/\d+", log)]

    def reaches(self, step: int, stage: str = "train", seconds: float = 900) -> float:
        return self.wait(lambda: max(self.finished(stage), default=0) >= step, seconds, f"step {step}")

    def ends(self, seconds: float = 1800) -> dict[str, Object]:
        self.wait(lambda: all(state_of(job) in ENDED for job in self.namespace.jobs().values()), seconds, "all ended")
        return self.namespace.jobs()

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl, in its order."""
        script = f"cat /mnt/runs/{NAME}/*/train/metrics.jsonl"
        text = self.namespace.kubectl("exec", self.head(), "--container", "ray-head", "--", "sh", "-c", script)
        return [json.loads(line) for line in text.splitlines()]

    def status(self) -> str:
        return pairwise_rm("status", NAME, "--namespace", self.namespace.name)

    # ---- surviving ---------------------------------------------------------------------------------

    @contextmanager
    def recovers(self, fault: str, at: int, stage: str = "train") -> Iterator[None]:
        """Does the block's damage once step `at` is finished, and waits for a step that nobody had finished by then.

        `stage`: the one in whose RayJob training runs.
        """
        TRIED.append(fault)
        self.reaches(at, stage)
        began = time.monotonic()
        yield
        before = max(self.finished(stage), default=0)
        self.reaches(before + 1, stage)
        self._recovered.append((fault, time.monotonic() - began))
        print(f"{fault}: step {before + 1} after {self._recovered[-1][1]:.0f} s", flush=True)

    def succeeds(self, stage: str = "train") -> None:
        """Asserts that all stages succeed, each step stands once, in order, and the judge has learnt."""
        jobs = self.ends()
        assert all(succeeded(job) for job in jobs.values()), self.namespace.describe()
        if self.pods("ray.io/node-type=head"):
            # A cluster of its own has gone with its RayJob.
            metrics = self.metrics()
            assert [line["step"] for line in metrics] == list(range(1, self.steps + 1))
            accuracy = [line["accuracy"] for line in metrics[-3:]]
            assert self.steps < 20 or sum(accuracy) / 3 > LEARNT, accuracy
        steps = self.finished(stage)
        lost = len(steps) - len(set(steps))
        SURVIVED.extend(Survival(fault, lost, seconds) for fault, seconds in self._recovered)
