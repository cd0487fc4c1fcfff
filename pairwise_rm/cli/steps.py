"""Each stage with its words on the console; commands are made of these, and `run` is all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from pairwise_rm.cli.console import Stage, console, duration
from pairwise_rm.recipe.model import DatasetConfig, Recipe
from pairwise_rm.run_folder import RunFolder

if TYPE_CHECKING:
    from pairwise_rm.evaluate.stage import Evaluation
    from pairwise_rm.train.launch import Trained
    from pairwise_rm.train.watch import Progress


def model_step(name: str, folder: Path, seed: int) -> None:
    """Makes a small local model where it is not there yet."""
    from pairwise_rm.models import make

    with Stage("model", f"{name} at {folder}") as stage:
        make(name, folder, seed, stage.live)


def convert_step(config: DatasetConfig, output_dir: Path, overwrite: bool, recipe: Recipe | None = None) -> None:
    """Converts the pairs; makes the recipe's model first, since its pairs come with it."""
    from pairwise_rm.convert.stage import convert
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


def train_step(recipe: Recipe, fresh: bool = False) -> Trained:
    """Trains with a line for each step."""
    from pairwise_rm.train.launch import train

    folder = RunFolder.of(recipe)
    with Stage("train", f"{recipe.model.path} -> {folder.train}") as stage:
        trained = train(recipe, fresh=fresh, watch=_Steps(stage))
        if trained.skipped:
            stage.say(f"step {trained.step} is reached already, nothing to do")
        else:
            note = f", resumed after step {trained.resumed_from}" if trained.resumed_from else ""
            stage.say(f"checkpoint of step {trained.step}{note}: {trained.checkpoint}")
    return trained


class _Steps:
    """Words for what the driver does: a line a step, and the phase while there is no step."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.first: float | None = None
        self.done = 0

    def __call__(self, progress: Progress) -> None:
        if progress.metrics is None:
            self.stage.say(progress.phase) if progress.phase else None
            return
        metrics = progress.metrics
        seconds = metrics.get("timing_s/step", 0.0)
        self.done += 1
        self.first = metrics["time"] - seconds if self.first is None else self.first
        left = (metrics["time"] - self.first) / self.done * (progress.last - progress.step)
        text = f"step {progress.step}/{progress.last}  reward {metrics.get('reward/mean', 0):.3f}"
        text += f"  accuracy {metrics.get('accuracy', 0):.3f}  valid {metrics.get('rollout/valid', 0):.3f}"
        if "kl_loss" in metrics:
            text += f"  kl {metrics['kl_loss']:.4f}"
        self.stage.say(f"{text}  {seconds:.1f} s  {duration(left)} left")


def evaluate_one(recipe: Recipe, model: str, label: str, data: Path, folder: Path, **options: Any) -> Evaluation:
    """Judges one model and says what came out."""
    from pairwise_rm.evaluate.stage import evaluate

    with Stage(f"evaluate {label}", model) as stage:
        done = evaluate(
            recipe, model=model, label=label, data_file=data, folder=folder, progress=stage.count, **options
        )
        stage.say(("already there: " if done.skipped else "") + headline(done))
    return done


def headline(evaluation: Evaluation) -> str:
    """The figures that matter, in one line."""
    metrics = evaluation.metrics
    return (
        f"accuracy {_figure(metrics['accuracy'])}  both orders right {_figure(metrics['both_orders_right'])}  "
        f"invalid {_figure(metrics['invalid'])}  ({metrics['pairs']} pairs, both orders)"
    )


def _figure(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def evaluate_step(recipe: Recipe, models: list[str], data: Path | None, out: Path | None, replace: bool) -> None:
    """The base model and the trained one; or the models that were named, two of them in a paired comparison."""
    from pairwise_rm import pipeline
    from pairwise_rm.errors import InputError
    from pairwise_rm.evaluate.stage import write_report
    from pairwise_rm.export.stage import merge
    from pairwise_rm.model_folder import model_location
    from pairwise_rm.train import checkpoints

    folder = RunFolder.of(recipe)
    pairs, target = pipeline.pairs_to_judge(recipe, data), out or folder.evaluation
    if len(models) > 2:
        raise InputError(f"--model: at most two models can be compared, got {len(models)}")
    trained = not models and checkpoints.newest(folder.checkpoints) is not None
    if models:
        chosen = [model_location(model) for model in models]
    else:
        chosen = [pipeline.base_model(recipe), *([str(merge(recipe))] if trained else [])]
    labels = [pipeline.BEFORE, pipeline.AFTER][: len(chosen)]
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


def export_step(recipe: Recipe, checkpoint: Path | None = None, out: Path | None = None) -> Path:
    """Writes the Hugging Face folder."""
    from pairwise_rm.export.stage import export

    with Stage("export", str(out or RunFolder.of(recipe).export)) as stage:
        target = export(recipe, checkpoint=checkpoint, out=out)
        stage.say(f"{target}: ready to serve, `vllm serve {target}`")
    return target


def run_steps(recipe: Recipe, fresh: bool) -> None:
    """All stages, then one table with before and after; the last line has the measured figures."""
    from pairwise_rm import pipeline
    from pairwise_rm.evaluate.stage import write_report
    from pairwise_rm.export.stage import merge

    folder = RunFolder.of(recipe)
    convert_step(recipe.data, folder.data, False, recipe)
    pairs = pipeline.pairs_to_judge(recipe)
    before = evaluate_one(recipe, pipeline.base_model(recipe), pipeline.BEFORE, pairs, folder.evaluation)
    train_step(recipe, fresh)
    merged = merge(recipe)
    after = evaluate_one(
        recipe, str(merged), pipeline.AFTER, pairs, folder.evaluation, against=before.folder, replace=True
    )
    exported = export_step(recipe)
    report = write_report(
        folder.evaluation, before=before.folder, after=after.folder, training_metrics=folder.metrics, recipe=recipe
    )
    console.print()
    console.print(_table(before, after))
    console.print(f"judge:  {exported}", markup=False)
    line = f"accuracy {before.accuracy:.2f} -> {after.accuracy:.2f} (held out, both orders) · report: {report}"
    console.print(line, markup=False)


def _table(before: Evaluation, after: Evaluation) -> Table:
    table = Table(title=f"{after.metrics['pairs']} held-out pairs, both orders, 95 % intervals")
    table.add_column("")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    rows = {
        "accuracy": "accuracy",
        "both orders right": "both_orders_right",
        "position consistency": "position_consistency",
        "share of A verdicts": "share_a",
        "invalid output": "invalid",
    }
    for text, key in rows.items():
        table.add_row(text, _figure(before.metrics[key]), _figure(after.metrics[key]))
    return table
