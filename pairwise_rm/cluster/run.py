"""One stage inside a cluster: its recipe from a ConfigMap, checks, the stages before it, GPUs, the work, the upload.

The work is in `pairwise_rm.pipeline`. Its events go into the log as JSON lines, and into the state file.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pairwise_rm import pipeline
from pairwise_rm.checks.files import input_problems, reward_problems
from pairwise_rm.checks.model import model_problems
from pairwise_rm.checks.problem import refuse
from pairwise_rm.checks.recipe import recipe_problems, shape_problems, source_problems, training_problems
from pairwise_rm.cluster.gpu_request import GpuRequest, demand_of
from pairwise_rm.cluster.input_wait import EarlierStage, await_stages
from pairwise_rm.cluster.recipe_mount import await_recipe
from pairwise_rm.cluster.state_file import StateWriter, read_state, renew, sentence_of, state_file
from pairwise_rm.cluster.upload import check_target, upload
from pairwise_rm.errors import InputError
from pairwise_rm.progress import Begin, End, Event, Failure, Line, Note, Retry, Step, Waiting
from pairwise_rm.ray_session import cluster_address
from pairwise_rm.recipe.load import Origin, digest_of, load_with_origin
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.signals import sigterm_raises

QUIET_SECONDS = 10.0


@dataclass(frozen=True)
class Job:
    """Arguments of a RayJob's command. `digest`: of the recipe file; `after`: each `STAGE[=DIGEST]` to wait for, in
    their order; timeouts in seconds.
    """

    stage: str
    recipe: Path
    digest: str | None
    after: tuple[str, ...]
    input_timeout: float
    gpu_timeout: float
    upload: str | None
    attempt: str = ""
    retry_timeout: float = 0.0


def run_job(job: Job, write: Callable[[str], None]) -> None:
    """Runs the stage; `write` receives its log, line by line. A stage that succeeded with this recipe is not repeated.

    Raises InputError and StageError, after they were written to the log and to the state file.
    """
    reporter = ClusterReporter(job.stage, write)
    try:
        _run(job, reporter)
    except (Exception, KeyboardInterrupt) as error:
        write(str(Line(job.stage, None, Failure(sentence_of(error)))))
        raise


def _run(job: Job, reporter: ClusterReporter) -> None:
    if job.stage not in pipeline.STAGES:
        raise InputError(f"stage {job.stage!r}: expected one of {', '.join(pipeline.STAGES)}")
    earlier = [EarlierStage.parse(text, job.stage) for text in job.after]
    if job.digest:
        await_recipe(job.recipe, job.digest, reporter.wait)
    recipe, origin = load_with_origin(str(job.recipe))
    path, digest = state_file(recipe, job.stage), job.digest or digest_of(job.recipe.read_bytes())
    if (state := read_state(path)) and state.state == "succeeded" and state.digest == digest:
        renew(path, state)
        reporter.say(f"already done with this recipe ({path}), nothing to do")
        return
    # Stopping a Ray job sends SIGTERM; raised as KeyboardInterrupt, it lets the stage record that it was stopped.
    with sigterm_raises(KeyboardInterrupt()), StateWriter(path, job.stage, digest, job.attempt) as reporter.state:
        _check(job.stage, recipe, origin, reporter)
        if job.upload:
            check_target(job.upload)
        if earlier:
            awaited = [(one, state_file(recipe, one.stage)) for one in earlier]
            await_stages(awaited, job.input_timeout, reporter.wait, job.attempt, job.retry_timeout)
        reporter.state.now("running")
        with _gpus(job, recipe, reporter) as gpus:
            pipeline.run_stage(job.stage, recipe, reporter, gpus)
        if job.upload:
            _upload(job, recipe, job.upload, reporter)


def _check(stage: str, recipe: Recipe, origin: Origin, reporter: ClusterReporter) -> None:
    """Refuses in the first seconds, before anything is waited for, a recipe that cannot run.

    Convert, the first stage, looks at the source, the reward and the model too. A model that is not there yet is left
    to the stages that load it, and a source that is not there to convert itself.
    """
    if stage != "convert":
        # verl's keys are not looked up again: that loads verl, and torch with it, in stages that wait for hours.
        unusable = training_problems(recipe) if stage == "train" else []
        refuse([*source_problems(recipe.data), *shape_problems(recipe), *unusable], origin)
    else:
        refuse(recipe_problems(recipe), origin)
        found = model_problems(recipe)
        wrong = [problem for problem in (*input_problems(recipe, download=False), *found) if not problem.absent]
        refuse([*reward_problems(recipe), *wrong], origin)
        for problem in found:
            reporter.say(f"not checked yet: {problem.text}")


@contextlib.contextmanager
def _gpus(job: Job, recipe: Recipe, reporter: ClusterReporter) -> Iterator[pipeline.Gpus | None]:
    """The stage's GPUs, which it asks for itself once its checks are done; withdrawn at the end."""
    demand = demand_of(job.stage, recipe)
    if demand is None or cluster_address() is None:
        yield None
        return
    request = GpuRequest(demand, recipe.device)

    def acquire() -> None:
        request.acquire(job.gpu_timeout, reporter.wait)
        reporter.go_on()

    try:
        yield pipeline.Gpus(acquire, request.release)
    finally:
        request.release()


def _upload(job: Job, recipe: Recipe, uri: str, reporter: ClusterReporter) -> None:
    folder = RunFolder.of(recipe)
    if finished := {"evaluate": folder.evaluation, "export": folder.export}.get(job.stage):
        reporter.say(f"uploaded to {upload(finished, uri)}")


@dataclass
class ClusterReporter:
    """Writes a stage's events as JSON lines to its log and, once that exists, to its state file."""

    stage: str
    write: Callable[[str], None]
    state: StateWriter | None = field(default=None, init=False)
    _retry: Retry | None = field(default=None, init=False)
    """The newest retry, until a step shows that the new attempt works."""

    def part(self, name: str, note: str = "") -> ClusterPart:
        return ClusterPart(self, name, note)

    def say(self, text: str) -> None:
        self.emit(Note(text))

    def wait(self, event: Waiting) -> None:
        line = Line(self.stage, None, event)
        if self.state:
            # While it retries, what it waits for is no news to the stages that wait for it.
            reason = self._retry.reason if self._retry else None
            self.state.now("retrying" if self._retry else "waiting", line, reason)
        self.write(str(line))

    def go_on(self) -> None:
        """Notes that what was waited for is there."""
        if self.state and not self._retry:
            self.state.now("running")

    def emit(self, event: Event, part: str | None = None, silent: bool = False) -> None:
        """Writes to the state file and, unless `silent`, to the log."""
        line = Line(self.stage, part, event)
        if isinstance(event, Retry):
            self._retry = event
            if self.state:
                self.state.now("retrying", line, event.reason)
        elif isinstance(event, Step) and self._retry:
            self._retry = None
            if self.state:
                self.state.now("running", line)
        elif self.state:
            self.state.say(line)
        if not silent:
            self.write(str(line))


class ClusterPart:
    """A part of a stage. Live lines reach the log every ten seconds at most, the state file always."""

    def __init__(self, reporter: ClusterReporter, name: str, note: str) -> None:
        self._reporter, self._name, self._note = reporter, name, note
        self._began = self._written = time.monotonic()

    def __enter__(self) -> ClusterPart:
        self._reporter.emit(Begin(self._note), self._name)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._reporter.emit(End(time.monotonic() - self._began), self._name)

    def say(self, event: Event | str) -> None:
        self._emit(event, silent=False)
        self._written = time.monotonic()

    def live(self, event: Event | str) -> None:
        if time.monotonic() - self._written >= QUIET_SECONDS:
            self.say(event)
        else:
            self._emit(event, silent=True)

    def _emit(self, event: Event | str, silent: bool) -> None:
        self._reporter.emit(Note(event) if isinstance(event, str) else event, self._name, silent)
