"""Each stage with its words on the console; the commands are made of these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairwise_rm.cli.console import Stage, console
from pairwise_rm.errors import InputError
from pairwise_rm.progress import StepLine
from pairwise_rm.recipe.model import DatasetConfig, Recipe
from pairwise_rm.run_folder import RunFolder

if TYPE_CHECKING:
    from pairwise_rm.evaluate.result import Evaluation
    from pairwise_rm.train.run import Trained
    from pairwise_rm.train.watchdog import Progress

BEFORE, AFTER = "before", "after"


def model_step(name: str, folder: Path, seed: int) -> None:
    """Makes a small local model where it is not there yet."""
    from pairwise_rm.toy import make

    with Stage("model", f"{name} at {folder}") as stage:
        make(name, folder, seed, stage.live)


def convert_step(config: DatasetConfig, output_dir: Path, overwrite: bool, recipe: Recipe | None = None) -> None:
    """Converts the pairs; makes the recipe's model first, since its pairs come with it."""
    from pairwise_rm.convert.run import convert
    from pairwise_rm.convert.summary import describe

    if recipe is not None and recipe.data.files:
        console.print(f"[bold cyan]▸ convert[/]  nothing to do, data.files names {recipe.data.files.train}")
        return
    if recipe is not None and recipe.model.make:
        model_step(recipe.model.make, Path(recipe.model.path), recipe.seed)
    with Stage(
        "convert", f"{config.configs.source} from {config.configs.path or config.configs.repo or 'the hub'}"
    ) as stage:
        result = convert(
            config, output_dir, overwrite=overwrite, progress=lambda done, total: stage.count("read", done, total)
        )
        for line in describe(result).splitlines():
            stage.say(line)


def train_step(recipe: Recipe, fresh: bool = False, holding: Callable[[], None] | None = None) -> Trained:
    """Trains with a line for each step. `holding` is called once verl's own actors hold the GPUs."""
    from pairwise_rm.train.run import train

    folder = RunFolder.of(recipe)
    with Stage("train", f"{recipe.model.path} -> {folder.train}") as stage:
        trained = train(recipe, fresh=fresh, watch=_Steps(stage, holding))
        if trained.skipped:
            stage.say(f"step {trained.step} is reached already, nothing to do")
        else:
            note = f", resumed after step {trained.resumed_from}" if trained.resumed_from else ""
            stage.say(f"checkpoint of step {trained.step}{note}: {trained.checkpoint}")
    return trained


class _Steps:
    """Words for what the driver does: a line a step, and the phase while there is no step."""

    def __init__(self, stage: Stage, holding: Callable[[], None] | None = None) -> None:
        self.stage, self.holding = stage, holding
        self.first: float | None = None
        self.done = 0

    def __call__(self, progress: Progress) -> None:
        if self.holding and progress.holds_gpus:
            self.holding()
            self.holding = None
        if progress.metrics is None:
            self.stage.say(progress.phase) if progress.phase else None
            return
        metrics = progress.metrics
        seconds = metrics.get("timing_s/step", 0.0)
        self.done += 1
        self.first = metrics["time"] - seconds if self.first is None else self.first
        left = (metrics["time"] - self.first) / self.done * (progress.last - progress.step)
        line = StepLine(
            step=progress.step,
            last=progress.last,
            reward=metrics.get("reward/mean", 0),
            accuracy=metrics.get("accuracy", 0),
            valid=metrics.get("rollout/valid", 0),
            kl=metrics.get("kl_loss"),
            seconds=seconds,
            left=left,
        )
        self.stage.say(str(line))


def evaluate_one(recipe: Recipe, model: str, label: str, data: Path, folder: Path, **options: Any) -> Evaluation:
    """Judges one model and says what came out."""
    from pairwise_rm.evaluate.run import evaluate

    with Stage(f"evaluate {label}", model) as stage:
        done = evaluate(
            recipe, model=model, label=label, data_file=data, folder=folder, progress=stage.count, **options
        )
        stage.say(("already there: " if done.skipped else "") + headline(done))
    return done


def base_model(recipe: Recipe) -> str:
    """What training starts from, for vLLM and transformers. Raises InputError when it is not there."""
    from pairwise_rm.hf_model import check_base_model, model_location

    check_base_model(recipe.model)
    return model_location(recipe.model.path)


def pairs_to_judge(recipe: Recipe, data: Path | None = None) -> Path:
    """The held-out pairs. Raises InputError when they were not converted yet."""
    path = data.expanduser() if data else RunFolder.of(recipe).test_file
    if not path.is_file():
        hint = "" if data else f"; `pairwise-rm convert {recipe.name}` writes it"
        raise InputError(f"{path}: no such file{hint}")
    return path


def headline(evaluation: Evaluation) -> str:
    """The figures that matter, in one line."""
    metrics = evaluation.metrics
    return (
        f"accuracy {figure(metrics['accuracy'])}  both orders right {figure(metrics['both_orders_right'])}  "
        f"invalid {figure(metrics['invalid'])}  ({metrics['pairs']} pairs, both orders)"
    )


def figure(estimate: dict[str, Any]) -> str:
    """`0.973 [0.948, 0.988]`, or `-` where nothing was counted."""
    if estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def evaluate_step(recipe: Recipe, models: list[str], data: Path | None, out: Path | None, replace: bool) -> None:
    """The base model and the trained one; or the models that were named, two of them in a paired comparison."""
    from pairwise_rm.evaluate.run import write_report
    from pairwise_rm.hf_model import model_location
    from pairwise_rm.train import checkpoints

    folder = RunFolder.of(recipe)
    pairs, target = pairs_to_judge(recipe, data), out or folder.evaluation
    if len(models) > 2:
        raise InputError(f"--model: at most two models can be compared, got {len(models)}")
    trained = not models and checkpoints.newest(folder.checkpoints) is not None
    if models:
        chosen = [model_location(model) for model in models]
    else:
        chosen = [base_model(recipe), *([str(merge_step(recipe))] if trained else [])]
    labels = [BEFORE, AFTER][: len(chosen)]
    first = evaluate_one(recipe, chosen[0], labels[0], pairs, target, replace=replace)
    last = first
    if len(chosen) == 2:
        last = evaluate_one(recipe, chosen[1], labels[1], pairs, target, against=first.folder, replace=replace)
    report = write_report(
        target,
        before=first.folder if last is not first else None,
        after=last.folder,
        training_metrics=folder.metrics if trained else None,
        recipe=recipe,
    )
    console.print(f"report: {report}", markup=False)


def merge_step(recipe: Recipe) -> Path:
    """The newest checkpoint as a Hugging Face folder, for evaluation and export."""
    from pairwise_rm.export.run import merge

    with Stage("merge", str(RunFolder.of(recipe).latest)):
        return merge(recipe)


def card_step(recipe: Recipe) -> None:
    """The card of an export that is there already carries the numbers of the newest evaluation."""
    from pairwise_rm.export.run import refresh_card

    if card := refresh_card(recipe):
        console.print(f"model card: {card}", markup=False)


def export_step(recipe: Recipe, checkpoint: Path | None = None, out: Path | None = None) -> Path:
    """Writes the Hugging Face folder."""
    from pairwise_rm.export.run import export

    with Stage("export", str(out or RunFolder.of(recipe).export)) as stage:
        target = export(recipe, checkpoint=checkpoint, out=out)
        stage.say(f"{target}: ready to serve, `vllm serve {target}`")
    return target
