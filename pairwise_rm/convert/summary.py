"""The summary of a conversion for people; the manifest has all of it for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pairwise_rm.convert.converters import SIDES
from pairwise_rm.convert.counts import SideCounts
from pairwise_rm.convert.run import ConvertResult


def describe(result: ConvertResult) -> str:
    """A few plain lines: what was read, what was left out and why, and one line a file."""
    counts = result.counts
    lines = (
        [f"{result.output_dir}: already there from the same config and input, nothing to do"] if result.skipped else []
    )
    lines.append(f"read      {counts.read:,} rows of {result.source.shown}")
    lines.append(f"kept      {counts.kept:,} pairs, each in both orders")
    dropped = {reason: count for reason, count in counts.dropped.items() if count}
    lines.append(f"dropped   {counts.dropped_total:,}{_reasons(dropped)}")
    if counts.dropped_total:
        lines[-1] += f", listed in {result.dropped_file}"
    if any(counts.left_out.values()):
        left_out = {limit: count for limit, count in counts.left_out.items() if count}
        lines.append(f"left out  {sum(left_out.values()):,}{_reasons(left_out)}")
    lines.append(f"rejected  {counts.rejected_total:,}{_reasons(counts.rejected)}")
    if counts.rejected:
        lines[-1] += f", listed in {result.rejected_file}"
    files = {"train": result.train_file, "test": result.test_file}
    lines += [f"{side:<8}  {_side(counts.of(side))}  {files[side]}" for side in SIDES]
    return "\n".join(lines)


def _reasons(counts: Mapping[Any, int]) -> str:
    return f" ({', '.join(f'{reason} {count:,}' for reason, count in counts.items())})" if counts else ""


def _side(side: SideCounts) -> str:
    labels = " · ".join(f"{name} {count:,}" for name, count in side.preferred.items())
    return f"{side.pairs:,} pairs = {side.rows:,} rows (preferred in the source's order: {labels})"
