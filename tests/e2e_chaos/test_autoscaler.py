"""An autoscaler that has ended runs in its standby, and a stage gets its worker."""

from __future__ import annotations

import pytest

from tests.e2e_chaos import damage
from tests.e2e_chaos.release import Release


@pytest.mark.skipif(not damage.OURS, reason="stops the API server, and the cluster is not ours alone")
def test_autoscaler_killed_and_the_api_server_away_before_any_worker(release: Release) -> None:
    """The standby starts while nobody answers, ends, and is started again."""
    release.steps = 4
    release.install()
    release.wait(lambda: bool(release.pods("ray.io/node-type=head")), 300, "the head runs")
    with release.recovers("autoscaler killed, API server away for 90 s", at=0):
        damage.kill_container(release, release.head(), "autoscaler")
        damage.stop_api_server(90)
    release.succeeds()
