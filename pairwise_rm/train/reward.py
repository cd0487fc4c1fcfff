"""The reward that verl calls for each response: an exact match pays 1, anything else 0.

The parser is `pairwise_rm.contract.verdict`; what it cannot parse gets no reward, and is counted in `valid` and
by reason. Every call returns the same keys, which verl's validation insists on.
An error is raised, never turned into a score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pairwise_rm.contract.rows import MAX_STRENGTH, PREFERENCES
from pairwise_rm.contract.verdict import INVALID_REASONS, Thinking, extract_preference_from_response


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    thinking: Thinking = "response",
    weight_by_strength: bool = False,
    tie_credit: float = 0.0,
    invalid_penalty: float = 0.0,
) -> dict[str, float]:
    """Scores one response of the judge.

    Args:
        data_source: the row's source; unused, part of verl's signature.
        solution_str: the decoded response, without the prompt.
        ground_truth: `A`, `B` or `tie`.
        extra_info: the row's `strength` is read when rewards are weighted by it.
        thinking: where the opening `<think>` stands (see `pairwise_rm.contract.prompt.thinking_of`).
        weight_by_strength, tie_credit, invalid_penalty: the recipe's reward section.

    Returns: `score` (the reward), `acc` (1 for an exact match), `valid`, `said_a`, `said_b`, `said_tie`, and one
    `invalid/<reason>` for each reason, all floats, the same keys always.

    Raises ValueError when the label is none of the three or has no strength to weight by, and for a negative
    penalty, which would pay for invalid output.
    """
    if ground_truth not in PREFERENCES:
        raise ValueError(f"ground truth must be A, B or tie, got {ground_truth!r}")
    if invalid_penalty < 0:
        raise ValueError(f"invalid_penalty is subtracted and must not be negative, got {invalid_penalty}")
    verdict = extract_preference_from_response(solution_str, thinking)
    acc = float(verdict.preference == ground_truth)
    score = acc
    if not verdict.valid:
        score = -invalid_penalty
    elif not acc and "tie" in (verdict.preference, ground_truth):
        score = tie_credit
    if weight_by_strength and score > 0:
        score *= _weight(ground_truth, extra_info)
    return {
        "score": float(score),
        "acc": acc,
        "valid": float(verdict.valid),
        **{f"said_{name.lower()}": float(verdict.preference == name) for name in PREFERENCES},
        **{f"invalid/{reason}": float(verdict.reason == reason) for reason in INVALID_REASONS},
    }


def _weight(ground_truth: str, extra_info: Mapping[str, Any] | None) -> float:
    if ground_truth == "tie":
        return 1.0
    strength = (extra_info or {}).get("strength", -1)
    if strength is None or not 1 <= strength <= MAX_STRENGTH:
        raise ValueError(f"reward.weight_by_strength needs a strength of 1 to {MAX_STRENGTH}, this row has {strength}")
    return float(strength) / MAX_STRENGTH
