"""pairwise-rm: train a pairwise generative reward model from preference pairs.

The RM-Gallery tutorial's names import from here; each is loaded on first access, so that
`import pairwise_rm` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairwise_rm.contract.prompt import BaseHelpfulnessPairWiseReward, PairwiseComparisonTemplate
    from pairwise_rm.contract.verdict import extract_preference_from_response
    from pairwise_rm.convert.converters import HelpSteer2PairwiseConverter
    from pairwise_rm.recipe.model import Recipe
    from pairwise_rm.train.dataset import HelpfulnessPairwiseTrainDataset
    from pairwise_rm.train.reward import compute_score

__version__ = "0.1.0"

_HOMES = {
    "BaseHelpfulnessPairWiseReward": "pairwise_rm.contract.prompt",
    "HelpSteer2PairwiseConverter": "pairwise_rm.convert.converters",
    "HelpfulnessPairwiseTrainDataset": "pairwise_rm.train.dataset",
    "PairwiseComparisonTemplate": "pairwise_rm.contract.prompt",
    "Recipe": "pairwise_rm.recipe.model",
    "compute_score": "pairwise_rm.train.reward",
    "extract_preference_from_response": "pairwise_rm.contract.verdict",
}

__all__ = [
    "BaseHelpfulnessPairWiseReward",
    "HelpSteer2PairwiseConverter",
    "HelpfulnessPairwiseTrainDataset",
    "PairwiseComparisonTemplate",
    "Recipe",
    "__version__",
    "compute_score",
    "extract_preference_from_response",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
