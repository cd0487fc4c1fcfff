"""The sums of vLLM's weights against those of the trainer's, in bfloat16: fresh, stale, and an adapter."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.paths import REPO

OTHER = "other weights than the trainer's"


@pytest.fixture(scope="module")
def said(model: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.train.sums_in_vllm", model, "bfloat16"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    return found


def test_weights_that_vllm_loaded_are_the_trainers(said: dict[str, Any]) -> None:
    assert said["full"]["loaded from the files"] == said["full"]["after a whole sync"] == 9


def test_weights_of_before_an_update_are_told_from_those_of_after_it(said: dict[str, Any]) -> None:
    assert OTHER in said["full"]["after an update"]
    assert "(9 of 9 parameters differ)" in said["full"]["after an update"]


def test_weights_that_were_loaded_and_are_not_what_the_forward_pass_reads_are_stale(said: dict[str, Any]) -> None:
    # o_proj and down_proj of two layers, which vLLM packs for oneDNN.
    assert "(4 of 9 parameters differ)" in said["full"]["loaded and not packed"]


def test_an_adapter_that_was_never_synced_or_is_of_before_an_update_is_told(said: dict[str, Any]) -> None:
    adapter = said["adapter"]
    assert "has no weights of" in adapter["without an adapter"]
    for moment in ("after a sync", "after the next sync"):
        # A and B of seven layers, twice; q, k, v and gate, up are fused in vLLM.
        assert adapter[moment] == 9 + 28
        assert "(28 of 37 parameters differ)" in adapter[f"an update {moment}"]
