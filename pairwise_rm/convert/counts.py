"""What happened to every row of the source: read + further_pairs = kept + dropped + rejected."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

from pairwise_rm.contract.rows import PREFERENCES, Preference
from pairwise_rm.convert.converters import Side

DropReason = Literal["no_worse_answer", "duplicate", "contradictory", "identical", "tie", "weak"]
DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)
Limit = Literal["limit", "pairs_per_prompt"]
LIMITS: tuple[Limit, ...] = ("limit", "pairs_per_prompt")


@dataclasses.dataclass
class SideCounts:
    """One output file. `preferred` counts pairs by label in the source's order: its A/B balance.

    Among the rows A and B are balanced by construction, since every pair occurs in both orders.
    """

    pairs: int = 0
    rows: int = 0
    preferred: dict[Preference, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(PREFERENCES, 0))

    @property
    def a_share(self) -> float | None:
        """Share of A among the pairs with a preferred response, or None where there is none."""
        decided = self.preferred["A"] + self.preferred["B"]
        return self.preferred["A"] / decided if decided else None


@dataclasses.dataclass
class Counts:
    """`dropped` and `rejected` by reason; `ties` counts the kept ones; `blank_lines` are not rows.

    `further_pairs`: pairs beyond the first of rows that hold several; a row that holds none is dropped as one.
    `left_out`: what a limit kept from being looked at, rows by data.configs.limit and pairs of a row by the
    converter's; neither is counted elsewhere.
    """

    read: int = 0
    further_pairs: int = 0
    kept: int = 0
    dropped: dict[DropReason, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(DROP_REASONS, 0))
    rejected: dict[str, int] = dataclasses.field(default_factory=dict)
    left_out: dict[Limit, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(LIMITS, 0))
    blank_lines: int = 0
    train: SideCounts = dataclasses.field(default_factory=SideCounts)
    test: SideCounts = dataclasses.field(default_factory=SideCounts)

    def of(self, side: Side) -> SideCounts:
        return self.train if side == "train" else self.test

    def keep(self, side: Side, preferred: Preference) -> None:
        counts = self.of(side)
        self.kept += 1
        counts.pairs += 1
        counts.rows += 2
        counts.preferred[preferred] += 1

    def reject(self, reason: str) -> None:
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    @property
    def dropped_total(self) -> int:
        return sum(self.dropped.values())

    @property
    def rejected_total(self) -> int:
        return sum(self.rejected.values())

    @property
    def ties(self) -> int:
        return self.train.preferred["tie"] + self.test.preferred["tie"]

    def as_json(self) -> dict[str, Any]:
        """As the manifest holds it; `from_json` reads it back."""
        return {
            "read": self.read,
            "further_pairs": self.further_pairs,
            "kept": self.kept,
            "dropped": {"total": self.dropped_total, **self.dropped},
            "rejected": {"total": self.rejected_total, **dict(sorted(self.rejected.items()))},
            "left_out": self.left_out,
            "ties": self.ties,
            "blank_lines": self.blank_lines,
            "train": {**dataclasses.asdict(self.train), "a_share": self.train.a_share},
            "test": {**dataclasses.asdict(self.test), "a_share": self.test.a_share},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Counts:
        def side(name: str) -> SideCounts:
            held = value[name]
            return SideCounts(held["pairs"], held["rows"], dict(held["preferred"]))

        def by_reason(name: str) -> dict[Any, int]:
            return {reason: count for reason, count in value[name].items() if reason != "total"}

        return cls(
            read=value["read"],
            further_pairs=value["further_pairs"],
            kept=value["kept"],
            dropped=by_reason("dropped"),
            rejected=by_reason("rejected"),
            left_out=dict(value["left_out"]),
            blank_lines=value["blank_lines"],
            train=side("train"),
            test=side("test"),
        )
