"""The verdict of several samples of one row.

Valid samples vote; the value with the most votes wins. When several values share the most votes, the verdict is `tie`:
the rule is symmetric in A and B and not random. Invalid samples do not vote; if no sample is valid the row is invalid,
with the most frequent reason (of equally frequent ones, the first that occurred).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pairwise_rm.contract.rows import Preference
from pairwise_rm.contract.verdict import InvalidReason, Verdict


def majority(verdicts: Sequence[Verdict]) -> tuple[Preference | None, InvalidReason | None]:
    """The preference of the majority and None, or None and the reason why there is none."""
    votes = Counter(verdict.preference for verdict in verdicts if verdict.preference is not None)
    if not votes:
        reasons = Counter(verdict.reason for verdict in verdicts)
        return None, reasons.most_common(1)[0][0]
    most = max(votes.values())
    winners = [preference for preference, count in votes.items() if count == most]
    return (winners[0] if len(winners) == 1 else "tie"), None
