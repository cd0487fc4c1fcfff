"""The evaluate stage: judges a parquet in both orders; writes metrics, verdicts and a report.

<run>/evaluation/
  <label>/metrics.json       metrics with intervals, and the manifest of what they were computed from
  <label>/verdicts.parquet   one row per judged row
  <label>/comparison.json    with `against`: the paired comparison
  report.html                one self-contained page

An evaluation with the same digest (model, data, prompt, sampling) is not repeated. One that was interrupted goes on
with the rows that are missing: each batch is kept in <label>.partial/ until the evaluation is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairwise_rm.atomic_io import atomic_folder, write_json
from pairwise_rm.contract.prompt_fit import TOO_LONG
from pairwise_rm.contract.rows import Row, Rows, read_rows
from pairwise_rm.errors import InputError
from pairwise_rm.evaluate.engine import Say, revision_of
from pairwise_rm.evaluate.generation_shards import partial_folder, remove_shards
from pairwise_rm.evaluate.provenance import manifest_of, other_configuration
from pairwise_rm.evaluate.result import COMPARISON, METRICS, REPORT, VERDICTS, Evaluation, read_json
from pairwise_rm.evaluate.row_verdicts import Progress, row_verdicts_of, sampling_of
from pairwise_rm.evaluate.verdicts_parquet import read_verdicts, verdict_columns, write_verdicts
from pairwise_rm.hf_model import check_model_folder
from pairwise_rm.recipe.model import Recipe


def evaluate(
    recipe: Recipe,
    *,
    model: str,
    label: str,
    data_file: Path,
    folder: Path,
    against: Path | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
    replace: bool = False,
    read: Rows | None = None,
) -> Evaluation:
    """Judges `data_file` with `model` and writes `<folder>/<label>/`.

    Args:
        against: folder of another evaluation of the same rows, for the paired comparison.
        progress: called with (what, done, total).
        say: told that an interrupted evaluation goes on, and that an engine ended and is started again.
        replace: overwrite an evaluation under this label that had another configuration. New weights at the same path
        are not another configuration, and replace the old metrics.
        read: the rows of `data_file`, where they were read already.

    Raises InputError before vLLM starts when model, data or label is wrong or no prompt fits, and StageError when vLLM
    fails or the disk is full; the same call then goes on.
    """
    _check_label(label)
    check_model_folder(model, revision_of(recipe, model))
    if against is not None:
        Evaluation.read(against)
    data_file = Path(data_file).expanduser()
    read = read or read_rows([data_file])
    rows = spread(read.rows, recipe.evaluate.limit)
    sampling = sampling_of(recipe)
    manifest = manifest_of(recipe, model, label, data_file, sampling)
    target = Path(folder) / label
    skipped = _is_there(target, manifest, replace)
    if not skipped:
        verdicts = row_verdicts_of(recipe, model, rows, progress, say=say, partial=partial_folder(target))
        columns = verdict_columns(rows, verdicts)
        _check_any_fits(columns, recipe, data_file)
        left = {"unreadable_rows": dict(read.unreadable), "cut_rows": sum(columns["cut"])}
        metrics = {**_measure(columns, recipe), **left, "manifest": manifest}
        with atomic_folder(target) as temporary:
            write_verdicts(temporary / VERDICTS, columns)
            write_json(temporary / METRICS, metrics)
    remove_shards(target)
    if against is not None:
        write_json(target / COMPARISON, compare_folders(against, target, recipe))
    return Evaluation(label, target, Evaluation.read(target).metrics, read_json(target / COMPARISON), skipped)


def compare_folders(before: Path, after: Path, recipe: Recipe) -> dict[str, Any]:
    """The paired comparison of two evaluation folders."""
    from pairwise_rm.evaluate.comparison import compare
    from pairwise_rm.evaluate.verdict_arrays import COUNTED, table_of

    tables = [table_of(read_verdicts(folder / VERDICTS, COUNTED)) for folder in (before, after)]
    figures = compare(*tables, resamples=recipe.evaluate.bootstrap, seed=recipe.seed)
    return {"before": str(before), "after": str(after), **figures}


def write_report(
    folder: Path,
    *,
    before: Path | None = None,
    after: Path,
    training_metrics: Path | None = None,
    recipe: Recipe,
) -> Path:
    """Writes `<folder>/report.html` from the folders of one or two evaluations; returns its path."""
    from pairwise_rm.atomic_io import write_text
    from pairwise_rm.evaluate.report.page import render

    comparison = compare_folders(before, after, recipe) if before is not None else None
    page = render(
        recipe=recipe,
        before=Evaluation.read(before) if before is not None else None,
        after=Evaluation.read(after),
        comparison=comparison,
        training_metrics=training_metrics,
    )
    target = Path(folder) / REPORT
    write_text(target, page)
    return target


def _check_any_fits(columns: dict[str, list[Any]], recipe: Recipe, data_file: Path) -> None:
    if any(reason != TOO_LONG for reason in columns["reason"]):
        return
    rows, limit = len(columns["reason"]), recipe.prompt.max_prompt_length
    hint = "raise it, or set prompt.overlong=cut"
    if recipe.prompt.overlong == "cut":
        hint = "the prompt itself takes so much; raise it"
    raise InputError(
        f"prompt.max_prompt_length: none of the {rows} rows of {data_file} fits into {limit} tokens; {hint}"
    )


def _measure(columns: dict[str, list[Any]], recipe: Recipe) -> dict[str, Any]:
    from pairwise_rm.evaluate.metrics import measure
    from pairwise_rm.evaluate.verdict_arrays import table_of

    settings = recipe.evaluate
    return measure(table_of(columns), samples=settings.samples, resamples=settings.bootstrap, seed=recipe.seed)


def spread(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """All rows of `limit` pairs, taken evenly over the file: its first pairs may all be of one subset."""
    pairs = list(dict.fromkeys(row["pair_id"] for row in rows))
    if limit is None or limit >= len(pairs):
        return list(rows)
    chosen = {pairs[index * len(pairs) // limit] for index in range(limit)}
    return [row for row in rows if row["pair_id"] in chosen]


def _check_label(label: str) -> None:
    if not label or label.startswith(".") or "/" in label:
        raise InputError(f"label: {label!r} cannot name a folder")


def _is_there(target: Path, manifest: dict[str, Any], replace: bool) -> bool:
    """Whether this evaluation exists. Raises InputError if another configuration's does."""
    metrics = read_json(target / METRICS)
    if metrics is None or not (target / VERDICTS).is_file():
        return False
    old = metrics.get("manifest", {})
    if old.get("digest") == manifest["digest"]:
        return True
    if not replace and (differing := other_configuration(old, manifest)):
        raise InputError(
            f"{target}: holds an evaluation of another configuration (differs in {', '.join(differing[:3])}); "
            "pass --replace, or name another folder with --out"
        )
    return False
