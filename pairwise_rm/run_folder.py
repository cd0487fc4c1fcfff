"""The folder of a run, in which all stages write, and the names in it.

<output_dir>/
  data/          preference_train.parquet, preference_test.parquet, manifest.json, rejected.jsonl
  train/         recipe.yaml, overrides.txt, versions.json, metrics.jsonl, train.log, rollouts/,
                 checkpoints/global_step_N/, latest -> checkpoints/global_step_N, actor_latest,
                 reward_function.py and .json, a recipe's own reward
  merged/        the newest checkpoint as a plain Hugging Face folder
  evaluation/    before/, after/ (metrics.json, verdicts.parquet), report.html; before.partial/ while it is judged
  export/        the judge, ready to serve, with its model card
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pairwise_rm.contract.rows import TEST_FILE, TRAIN_FILE
from pairwise_rm.recipe.model import Recipe


@dataclass(frozen=True)
class RunFolder:
    """Absolute paths of a run: workers of a cluster have another working directory than the command."""

    root: Path
    data: Path
    train_file: Path
    test_file: Path
    train: Path
    metrics: Path
    checkpoints: Path
    latest: Path
    merged: Path
    evaluation: Path
    export: Path

    @classmethod
    def of(cls, recipe: Recipe) -> RunFolder:
        root = _absolute(recipe.output_dir or f"runs/{recipe.name}")
        data = _absolute(recipe.data.export.output_dir) if recipe.data.export.output_dir else root / "data"
        files = recipe.data.files
        return cls(
            root=root,
            data=data,
            train_file=_absolute(files.train) if files else data / TRAIN_FILE,
            test_file=_absolute(files.test) if files else data / TEST_FILE,
            train=root / "train",
            metrics=root / "train/metrics.jsonl",
            checkpoints=root / "train/checkpoints",
            latest=root / "train/latest",
            merged=root / "merged",
            evaluation=root / "evaluation",
            export=root / "export",
        )


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
