"""The smoke judge, seed by seed: `pairwise-rm run smoke` with three seeds of model, data and training.

    python benchmarks/smoke.py                  # three seeds, about ten minutes each on two cores
    python benchmarks/smoke.py --seeds 1 2 --keep runs/spread

Prints held-out accuracy over both orders before and after, and the spread over the seeds. The held-out pairs are
measured here and nowhere else; a search uses `benchmarks/smoke_search.py`, which never sees them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

_LABELS = ("before", "after")


class Result(NamedTuple):
    seed: int
    before: dict[str, Any]
    after: dict[str, Any]
    seconds: float


def run(seed: int, folder: Path) -> Result:
    """One whole run in a process of its own. Raises CalledProcessError when it fails."""
    model = folder / "model"
    began = time.perf_counter()
    overrides = [f"seed={seed}", f"model.path={model}", f"data.configs.path={model}/preference.jsonl"]
    command = [sys.executable, "-m", "pairwise_rm", "run", "smoke", f"output_dir={folder}", *overrides]
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - began
    before, after = (json.loads((folder / "evaluation" / label / "metrics.json").read_text()) for label in _LABELS)
    return Result(seed, before, after, seconds)


def table(results: list[Result]) -> str:
    """One line per seed, then mean, minimum and maximum over the seeds."""
    lines = ["seed   before    after   both orders   invalid   minutes"]
    for result in results:
        after = result.after
        lines.append(
            f"{result.seed:4d}   {result.before['accuracy']['value']:6.3f}   {after['accuracy']['value']:6.3f}"
            f"   {after['both_orders_right']['value']:11.3f}   {after['invalid']['value']:7.3f}"
            f"   {result.seconds / 60:7.1f}"
        )
    for name in ("before", "after"):
        values = [getattr(result, name)["accuracy"]["value"] for result in results]
        lines.append(f"{name}: mean {statistics.mean(values):.3f}, min {min(values):.3f}, max {max(values):.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--keep", type=Path, help="folder for the runs; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = (given.keep or Path(temporary)).absolute()
        results = [run(seed, root / f"seed-{seed}") for seed in given.seeds]
    print()
    print(table(results))


if __name__ == "__main__":
    main()
