"""An autoscaler that has ended runs in its standby, and a stage gets its worker."""

from __future__ import annotations

from tests.e2e_chaos import damage
from tests.e2e_chaos.release import Release


def waits_for_gpus(release: Release) -> bool:
    return "GPUs" in release.status()


@damage.ours
def test_autoscaler_killed(release: Release) -> None:
    release.install()
    release.wait(lambda: bool(release.pods("ray.io/node-type=head")), 300, "the head runs")
    with release.survives("autoscaler killed before any worker", at=0):
        damage.kill_container(release, release.head(), "autoscaler")


@damage.ours
def test_autoscaler_killed_and_the_api_server_away(release: Release) -> None:
    """The standby starts while nobody answers, ends, and is started again."""
    release.install()
    release.wait(lambda: bool(release.pods("ray.io/node-type=head")), 300, "the head runs")
    with release.survives("autoscaler killed, API server away for 90 s", at=0):
        damage.kill_container(release, release.head(), "autoscaler")
        damage.stop_api_server(90)
