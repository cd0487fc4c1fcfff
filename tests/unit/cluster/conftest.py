"""What the tests of waiting share."""

from __future__ import annotations

import pytest

from pairwise_rm.cluster import input_wait


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Polls without a pause; a list for what the wait says."""
    monkeypatch.setattr(input_wait, "POLL_SECONDS", 0.01)
    return []
