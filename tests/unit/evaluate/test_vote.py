"""The majority of several samples."""

from __future__ import annotations

import pytest

from pairwise_rm.contract.verdict import Verdict
from pairwise_rm.evaluate.vote import majority


def said(*values: str) -> list[Verdict]:
    """A, B and tie are valid verdicts, anything else the reason of an invalid one."""
    return [
        Verdict(value, None, "") if value in ("A", "B", "tie") else Verdict(None, value, "")  # type: ignore[arg-type]
        for value in values
    ]


@pytest.mark.parametrize(
    ("samples", "verdict", "reason"),
    [
        (["A"], "A", None),
        (["A", "B", "B"], "B", None),
        (["A", "B"], "tie", None),
        (["A", "B", "tie"], "tie", None),
        (["A", "tie"], "tie", None),
        (["A", "no_verdict", "no_verdict"], "A", None),
        (["no_verdict"], None, "no_verdict"),
        (["extra_text", "no_verdict", "no_verdict"], None, "no_verdict"),
        (["extra_text", "no_verdict"], None, "extra_text"),
    ],
)
def test_the_majority_of_valid_samples_decides_and_shared_votes_are_a_tie(
    samples: list[str], verdict: str | None, reason: str | None
) -> None:
    assert majority(said(*samples)) == (verdict, reason)
