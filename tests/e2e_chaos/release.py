"""A release of the kind preset that is followed step by step: its log, its metrics, its pods."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.e2e.kube import ENDED, GPU, Namespace, nodes_have_gpus, pairwise_rm, state_of, succeeded, wait_for
from tests.e2e_chaos.survival import SURVIVED, TRIED, Survival
from tests.paths import CHART

STEPS = 20
SAVE_EVERY = 2
NAME = "judge"
Object = dict[str, Any]


@dataclass
class Release:
    namespace: Namespace
    settings: tuple[str, ...] = ()

    def install(self, *settings: str, verb: str = "install") -> None:
        """`settings` are KEY=VALUE; those of an upgrade are added to those before."""
        self.settings += settings
        recipe = (f"recipe.overrides.train.steps={STEPS}", f"recipe.overrides.train.save_every={SAVE_EVERY}")
        gpus = (f"poolDefaults.gpuResource={GPU}",) if nodes_have_gpus() else ()
        given = [part for setting in (*recipe, *gpus, *self.settings) for part in ("--set", setting)]
        self.namespace.helm(verb, NAME, str(CHART), "--values", str(CHART / "values-kind.yaml"), *given)

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

    def step(self) -> int:
        """The newest step that training has finished; 0 for none."""
        log = self.namespace.kubectl(
            "logs", "--selector=pairwise-rm.io/stage=train", "--tail=-1", "--prefix=false", code=None
        )
        return max((int(found) for found in re.findall(r"\bstep (\d+)/\d+", log)), default=0)

    def reaches(self, step: int, seconds: float = 900) -> float:
        return self.wait(lambda: self.step() >= step, seconds, f"step {step}")

    def ends(self, seconds: float = 1800) -> dict[str, Object]:
        self.wait(lambda: all(state_of(job) in ENDED for job in self.namespace.jobs().values()), seconds, "all ended")
        return self.namespace.jobs()

    def metrics(self) -> list[int]:
        """The steps in metrics.jsonl, in its order."""
        script = f"cat /mnt/runs/{NAME}/*/train/metrics.jsonl"
        text = self.namespace.kubectl("exec", self.head(), "--container", "ray-head", "--", "sh", "-c", script)
        return [json.loads(line)["step"] for line in text.splitlines()]

    def status(self) -> str:
        return pairwise_rm("status", NAME, "--namespace", self.namespace.name)

    # ---- surviving ---------------------------------------------------------------------------------

    @contextmanager
    def survives(self, fault: str, at: int = 6) -> Iterator[None]:
        """Does the block's damage after step `at`, and then asserts that all goes on, and how well."""
        TRIED.append(fault)
        self.reaches(at)
        began, before = time.monotonic(), self.step()
        yield
        self.reaches(before + 1)
        recovery = time.monotonic() - began
        jobs = self.ends()
        assert all(succeeded(job) for job in jobs.values()), self.namespace.describe()
        assert self.metrics() == list(range(1, STEPS + 1))
        SURVIVED.append(Survival(fault, self.trained_twice(), recovery))

    def trained_twice(self) -> int:
        """Steps that were finished more than once, by the logs of all submitters that are still there."""
        log = self.namespace.kubectl("logs", "--selector=pairwise-rm.io/stage=train", "--tail=-1", code=None)
        found = re.findall(r"\bstep (\d+)/\d+", log)
        return len(found) - len(set(found))
