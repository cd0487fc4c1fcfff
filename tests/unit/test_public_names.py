"""The names of the RM-Gallery tutorial import from `pairwise_rm` itself, and only when they are touched."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import pairwise_rm

LIGHT = sorted(set(pairwise_rm.__all__) - {"HelpfulnessPairwiseTrainDataset", "__version__"})


@pytest.mark.parametrize("name", LIGHT)
def test_a_public_name_is_the_one_of_its_module(name: str) -> None:
    found = getattr(pairwise_rm, name)
    assert found is getattr(importlib.import_module(found.__module__), name)
    assert found.__module__.startswith("pairwise_rm.")


def test_the_names_of_the_rm_gallery_tutorial_are_all_there() -> None:
    tutorial = {
        "HelpSteer2PairwiseConverter",
        "HelpfulnessPairwiseTrainDataset",
        "PairwiseComparisonTemplate",
        "BaseHelpfulnessPairWiseReward",
        "compute_score",
        "extract_preference_from_response",
    }
    assert tutorial <= set(pairwise_rm.__all__) == set(dir(pairwise_rm))


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import sys, pairwise_rm; print([m for m in sys.modules if m.startswith('pairwise_rm.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = pairwise_rm.Nonsense
