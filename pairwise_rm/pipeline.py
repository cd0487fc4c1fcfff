"""The stages in their order, and what each does with a recipe.

`pairwise-rm run` goes through all of them here; each RayJob of the chart runs one, and `pairwise-rm status` shows them
in this order. Each reports through the reporter that it is given: to a terminal, or to a cluster's logs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairwise_rm.checks.files import made_with_the_model
from pairwise_rm.checks.model import look_at_model, model_problems
from pairwise_rm.checks.problem import refuse
from pairwise_rm.contract.rows import TEST_FILE, read_rows
from pairwise_rm.convert.output_folder import finish
from pairwise_rm.errors import InputError
from pairwise_rm.progress import Part, Reporter, Step, counting
from pairwise_rm.recipe.model import DatasetConfig, Recipe
from pairwise_rm.run_folder import RunFolder

if TYPE_CHECKING:
    from pairwise_rm.evaluate.result import Evaluation
    from pairwise_rm.train.run import Trained
    from pairwise_rm.train.watchdog import DriverProgress

STAGES = ("convert", "train", "evaluate", "export")

BEFORE, AFTER = "before", "after"
"""Labels of the evaluations of the base model and of the trained one."""


@dataclass(frozen=True)
class Outcome:
    """The results of a whole run."""

    before: Evaluation
    after: Evaluation
    judge: Path
    report: Path


def run(recipe: Recipe, reporter: Reporter, fresh: bool = False) -> Outcome:
    """All stages; the base model is evaluated before it is trained. Finished stages are not repeated."""
    from pairwise_rm.evaluate.run import write_report

    folder = RunFolder.of(recipe)
    convert(recipe.data, folder.data, reporter, recipe=recipe)
    refuse(model_problems(recipe))
    pairs, base = pairs_to_judge(recipe), base_model(recipe)
    before = evaluate_model(recipe, base, BEFORE, pairs, folder.evaluation, reporter)
    train(recipe, reporter, fresh)
    merged = str(merge(recipe, reporter))
    after = evaluate_model(
        recipe, merged, AFTER, pairs, folder.evaluation, reporter, against=before.folder, replace=True
    )
    exported = export(recipe, reporter)
    report = write_report(
        folder.evaluation, before=before.folder, after=after.folder, training_metrics=folder.metrics, recipe=recipe
    )
    return Outcome(before, after, exported, report)


@dataclass(frozen=True)
class Gpus:
    """How a stage gets its GPUs: `acquire` waits for them, `holding` is called once the stage's own actors hold them.

    A stage calls `acquire` after all checks that need no GPU, so that a mistake holds none.
    """

    acquire: Callable[[], None]
    holding: Callable[[], None]


def run_stage(name: str, recipe: Recipe, reporter: Reporter, gpus: Gpus | None = None) -> None:
    """One of STAGES; `gpus` on a cluster, where they are asked for."""
    if name == "convert":
        convert(recipe.data, RunFolder.of(recipe).data, reporter, recipe=recipe)
    elif name == "train":
        train(recipe, reporter, gpus=gpus)
    elif name == "evaluate":
        evaluate(recipe, reporter, replace=True, gpus=gpus)
        refresh_card(recipe, reporter)
    elif name == "export":
        export(recipe, reporter)
    else:
        raise InputError(f"stage {name!r}: expected one of {', '.join(STAGES)}")


def make_model(name: str, folder: Path, seed: int, reporter: Reporter) -> None:
    """Makes one of the small local models unless it exists."""
    from pairwise_rm.toy import make

    with reporter.part("model", f"{name} at {folder}") as part:
        make(name, folder, seed, part.live)


def convert(
    config: DatasetConfig,
    output_dir: Path,
    reporter: Reporter,
    overwrite: bool = False,
    recipe: Recipe | None = None,
) -> None:
    """Converts the pairs. Makes the recipe's small model first, since its pairs come with it."""
    from pairwise_rm.convert.run import convert as convert_pairs
    from pairwise_rm.convert.source_file import locate
    from pairwise_rm.convert.summary import describe

    if recipe is not None and recipe.data.files:
        with reporter.part("convert", f"nothing to do, data.files names {recipe.data.files.train}"):
            return
    if recipe is not None and recipe.model.make:
        if config.configs.type == "local" and not made_with_the_model(config, recipe):
            locate(config.configs, None, config.export.is_official)  # before minutes are spent on the model
        make_model(recipe.model.make, Path(recipe.model.path), recipe.seed, reporter)
    path = config.configs.path
    place = ", ".join(path) if isinstance(path, list) else path
    source = f"{config.configs.source} from {place or config.configs.repo or 'the hub'}"
    with reporter.part("convert", source) as part:
        count = counting(part)
        result = convert_pairs(
            config, output_dir, overwrite=overwrite, progress=lambda done, total: count("read", done, total)
        )
        for line in describe(result).splitlines():
            part.say(line)


def train(recipe: Recipe, reporter: Reporter, fresh: bool = False, gpus: Gpus | None = None) -> Trained:
    """Trains."""
    from pairwise_rm.train.run import train as train_with_verl

    folder = RunFolder.of(recipe)
    with reporter.part("train", f"{recipe.model.path} -> {folder.train}") as part:
        progress = _TrainingProgress(part, gpus)
        trained = train_with_verl(
            recipe,
            fresh=fresh,
            watch=progress,
            warn=lambda text: part.say(f"warning: {text}"),
            acquire=progress.acquire if gpus else None,
            retrying=part.say,
        )
        if trained.skipped:
            part.say(f"step {trained.step} is reached already, nothing to do")
        else:
            note = f", resumed after step {trained.resumed_from}" if trained.resumed_from else ""
            part.say(f"checkpoint of step {trained.step}{note}: {trained.checkpoint}")
    return trained


class _TrainingProgress:
    """The driver's progress as events: each step, and the phases before the first one."""

    def __init__(self, part: Part, gpus: Gpus | None = None) -> None:
        self._part, self._gpus = part, gpus
        self._asked = False
        self._began: float | None = None
        self._steps = 0

    def acquire(self) -> None:
        """Asks for the GPUs, before each attempt."""
        if self._gpus:
            self._gpus.acquire()
            self._asked = True

    def __call__(self, progress: DriverProgress) -> None:
        if self._gpus and self._asked and progress.holds_gpus:
            self._gpus.holding()
            self._asked = False
        if progress.metrics is not None:
            self._part.say(self._step(progress, progress.metrics))
        elif progress.phase:
            self._part.say(progress.phase)

    def _step(self, progress: DriverProgress, metrics: dict[str, Any]) -> Step:
        seconds = metrics.get("timing_s/step", 0.0)
        self._steps += 1
        self._began = metrics["time"] - seconds if self._began is None else self._began
        return Step(
            step=progress.step,
            of=progress.last,
            reward=metrics.get("reward/mean", 0),
            accuracy=metrics.get("accuracy", 0),
            valid=metrics.get("rollout/valid", 0),
            kl=metrics.get("kl_loss"),
            seconds=seconds,
            left=(metrics["time"] - self._began) / self._steps * (progress.last - progress.step),
        )


def evaluate(
    recipe: Recipe,
    reporter: Reporter,
    models: list[str] | None = None,
    data: Path | None = None,
    out: Path | None = None,
    replace: bool = False,
    source: str | None = None,
    gpus: Gpus | None = None,
) -> None:
    """The base model and the trained one; or the models that are named, two of them in a paired comparison."""
    from pairwise_rm.evaluate.run import write_report
    from pairwise_rm.hf_model import model_location
    from pairwise_rm.train import checkpoints

    folder = RunFolder.of(recipe)
    target = out or folder.evaluation
    pairs = pairs_to_judge(recipe, converted_for_judging(recipe, data, source, target, reporter))
    if models and len(models) > 2:
        raise InputError(f"--model: at most two models can be compared, got {len(models)}")
    if not models:
        # How training splits the model is no matter here.
        refuse(problem for problem in look_at_model(recipe).problems if not problem.text.startswith("train."))
    read = read_rows([pairs])  # before GPUs are asked for
    if gpus:
        gpus.acquire()
    trained = not models and checkpoints.has_any(folder.checkpoints)
    if models:
        chosen = [model_location(model) for model in models]
    else:
        chosen = [base_model(recipe), *([str(merge(recipe, reporter))] if trained else [])]
    options: dict[str, Any] = {"replace": replace, "read": read}
    first = evaluate_model(recipe, chosen[0], BEFORE, pairs, target, reporter, **options)
    last = first
    if len(chosen) == 2:
        last = evaluate_model(recipe, chosen[1], AFTER, pairs, target, reporter, against=first.folder, **options)
    report = write_report(
        target,
        before=first.folder if last is not first else None,
        after=last.folder,
        training_metrics=folder.metrics if trained else None,
        recipe=recipe,
    )
    reporter.say(f"report: {report}")


def evaluate_model(
    recipe: Recipe, model: str, label: str, data: Path, folder: Path, reporter: Reporter, **options: Any
) -> Evaluation:
    """Evaluates one model and reports the result."""
    from pairwise_rm.evaluate.result import headline, remarks
    from pairwise_rm.evaluate.run import evaluate as judge_rows

    with reporter.part(f"evaluate {label}", model) as part:
        progress = counting(part)
        done = judge_rows(
            recipe, model=model, label=label, data_file=data, folder=folder, progress=progress, say=part.say, **options
        )
        for line in remarks(done):
            part.say(line)
        # Last, since `status` shows the last line of a part.
        part.say(("already there: " if done.skipped else "") + headline(done))
    return done


def base_model(recipe: Recipe) -> str:
    """The base model's location, for vLLM and transformers. Raises InputError when it does not exist."""
    from pairwise_rm.hf_model import check_base_model, model_location

    check_base_model(recipe.model)
    return model_location(recipe.model.path)


def pairs_to_judge(recipe: Recipe, data: Path | None = None) -> Path:
    """The held-out pairs. Raises InputError when they were not converted yet."""
    path = data.expanduser() if data else RunFolder.of(recipe).test_file
    finish(path.parent)
    if not path.is_file():
        hint = "" if data else f"; `pairwise-rm convert {recipe.name}` writes it"
        raise InputError(f"{path}: no such file{hint}")
    return path


def converted_for_judging(
    recipe: Recipe, data: Path | None, source: str | None, folder: Path, reporter: Reporter
) -> Path | None:
    """The data file with its pairs: raw rows are converted into `<folder>/pairs`, all on the test side."""
    from pairwise_rm.convert.raw_file import config_for, is_raw

    if data is None:
        if source is not None:
            raise InputError("--source needs --data, whose rows it reads")
        return None
    if source is None and not is_raw(data.expanduser()):
        return data
    config = config_for(data, recipe.data.configs, source)
    try:
        convert(config, folder / "pairs", reporter, overwrite=True)
    except InputError as error:
        if source is not None:
            raise
        raise InputError(f"{error} (read as {config.configs.source}; --source names how rows are read)") from error
    return folder / "pairs" / TEST_FILE


def merge(recipe: Recipe, reporter: Reporter) -> Path:
    """The newest checkpoint as a Hugging Face folder, for evaluation and export."""
    from pairwise_rm.export.run import merge as merge_checkpoint

    with reporter.part("merge", str(RunFolder.of(recipe).latest)) as part:
        return merge_checkpoint(recipe, warn=lambda text: part.say(f"warning: {text}"))


def refresh_card(recipe: Recipe, reporter: Reporter) -> None:
    """Puts the figures of the newest evaluation into the card of an export that is there already."""
    from pairwise_rm.export.run import refresh_card as refresh

    if card := refresh(recipe):
        reporter.say(f"model card: {card}")


def export(recipe: Recipe, reporter: Reporter, checkpoint: Path | None = None, out: Path | None = None) -> Path:
    """Writes the Hugging Face folder."""
    from pairwise_rm.export.run import export as export_judge

    with reporter.part("export", str(out or RunFolder.of(recipe).export)) as part:
        target = export_judge(recipe, checkpoint=checkpoint, out=out, warn=lambda text: part.say(f"warning: {text}"))
        part.say(f"{target}: ready to serve, `vllm serve {target}`")
    return target
