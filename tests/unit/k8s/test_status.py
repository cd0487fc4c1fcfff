"""The table of a release, its JSON, and the live table, against an API server on a real socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

from pairwise_rm import __version__
from pairwise_rm.cli import console as console_module
from pairwise_rm.k8s.objects import Gpus
from pairwise_rm.k8s.snapshot import Snapshot
from pairwise_rm.k8s.status import Overview, follower
from pairwise_rm.progress import Failure
from tests.unit.command_line import call, refused
from tests.unit.k8s_objects import AT, STEP, container, event, job, ray_cluster, said, submitter, worker
from tests.unit.kubernetes_stub import KubernetesStub


def test_the_table_shows_each_stage(release: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "status")
    assert (code, err) == (0, "")
    assert "judge in namespace ml · recipe smoke" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith(("convert", "train", "export"))}
    assert "✓ succeeded" in rows["convert"]
    assert "▸ running" in rows["train"]
    assert "step 3/20  reward 0.412  accuracy 0.500" in rows["train"]
    assert "8 held" in rows["train"]
    assert "· waiting" in rows["export"]
    assert "for train (running)" in rows["export"]
    assert "held" not in rows["export"]


RESULT = (
    "accuracy 0.742 [0.701, 0.781]  both orders right 0.562 [0.473, 0.648]  invalid 0.012 [0.004, 0.027]  "
    "(128 pairs, both orders)"
)


@pytest.fixture
def evaluated(release: KubernetesStub) -> KubernetesStub:
    """The same release with a finished evaluation and a stage that failed with a long sentence."""
    cause = "vLLM: the engine did not start: ValueError: " + "no room for the cache of keys and values, " * 4
    release.add("rayjobs", job("evaluate", "Complete", "SUCCEEDED"), job("card", "Failed", "FAILED", message=cause))
    release.add("pods", submitter("evaluate"))
    release.logs["judge-evaluate-0a1b2c3d-s1"] = f"{AT} {said(RESULT, 'evaluate')}\n"
    return release


def shown_at(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **options: Any
) -> list[str]:
    monkeypatch.setattr(console_module, "console", Console(width=width, highlight=False, soft_wrap=True, **options))
    code, out, err = call(capsys, "status", "judge")
    assert (code, err) == (0, "")
    return out.splitlines()


ASIDE = (" ", "/", "judge", "stage", "to try again")
FIGURES = (
    *("step 3/20", "reward 0.412", "accuracy 0.500", "8 held", "for train (running)"),
    *("accuracy 0.742 [0.701, 0.781]", "both orders right 0.562 [0.473, 0.648]", "invalid 0.012 [0.004, 0.027]"),
    "(128 pairs, both orders)",
)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_figure_is_broken_or_cut_at_any_width(
    evaluated: KubernetesStub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = shown_at(width, capsys, monkeypatch)
    assert max(map(len, lines)) <= width
    for figure in FIGURES:
        assert any(figure in line for line in lines), figure
    assert " ".join(" ".join(lines).split()).count("no room for the cache of keys and values,") >= 3
    assert [line.split()[0] for line in lines if line and not line.startswith(ASIDE)] == [
        *("convert", "train", "evaluate", "export", "card")
    ]


def test_on_80_columns_what_is_too_long_for_its_column_stands_below_its_stage(
    evaluated: KubernetesStub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown_at(80, capsys, monkeypatch)
    at = next(number for number, line in enumerate(lines) if line.startswith("evaluate"))
    assert lines[at].split()[:3] == ["evaluate", "✓", "succeeded"]
    assert lines[at + 1 : at + 3] == [
        "  accuracy 0.742 [0.701, 0.781]  both orders right 0.562 [0.473, 0.648]",
        "  invalid 0.012 [0.004, 0.027]  (128 pairs, both orders)",
    ]


def test_the_table_of_a_narrow_terminal_keeps_every_word(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown_at(60, capsys, monkeypatch)
    assert max(map(len, lines)) <= 60
    assert all(word in "\n".join(lines) for word in ("step", "3/20", "0.412", "succeeded", "waiting")), lines


def test_a_live_table_ends_with_the_last_stage(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "console", Console(width=100, force_terminal=True, color_system=None))
    cluster.add("rayjobs", job("train", "Complete", "SUCCEEDED"), job("export", "Failed", "FAILED", message="no room"))
    code, out, _ = call(capsys, "status", "--watch")
    assert code == 0
    assert "✓ succeeded" in out
    assert "FAILED: no room" in out


def test_live_and_json_exclude_each_other(release: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "status", "-w", "--json") == (2, "--watch and --json exclude each other; keep one")


def test_json_has_the_same_as_numbers(release: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "status", "judge", "--json")
    found = json.loads(out)
    train = found["stages"][1]
    assert code == 0
    assert (found["release"], found["run_folder"]) == ("judge", "/mnt/runs/judge/smoke-1")
    assert (train["state"], train["step"], train["last_step"], train["reward"]) == ("running", 3, 20, 0.412)
    assert train["gpus"] == {"held": 8, "waited": 0}
    assert (train["job_status"], train["deployment_status"]) == ("RUNNING", "Running")


def test_an_issue_stands_under_the_table(cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    status = container("ray-worker", {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})
    cluster.add("rayjobs", job("train", "Initializing", ""))
    cluster.add("pods", worker("Pending", containerStatuses=[status]))
    _, out, _ = call(capsys, "status")
    assert "✗ worker pod judge-a100-worker-x1 cannot pull image repo/judge:1: not found" in out
    assert "GPUs of its RayCluster: 1 waited for" in out


def test_lines_of_a_newer_image_are_shown_as_far_as_they_are_understood_and_that_is_said(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = [said(STEP, v=2, tokens=4100), said("a new kind", v=2, event="phase")]
    for line, progress in zip(newer, ["step 3/20  reward 0.412", "a new kind"], strict=True):
        release.logs["judge-train-0a1b2c3d-s1"] = f"{AT} {line}\n"
        _, out, _ = call(capsys, "status")
        assert progress in out
        assert (
            f"! the image is newer than this pairwise-rm {__version__}: its lines have version 2, known here is 1"
            in out
        )
    assert json.loads(call(capsys, "status", "--json")[1])["stages"][1]["lines_version"] == 2


def test_lines_of_the_same_version_are_nothing_to_speak_of(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "version" not in call(capsys, "status")[1]


def test_without_logs_the_table_is_there(release: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    forbidden = {"message": 'User "ada" cannot get resource "pods/log"'}
    release.answers["GET /api/v1/namespaces/ml/pods/judge-train-0a1b2c3d-s1/log"] = (403, forbidden)
    release.answers["GET /api/v1/namespaces/ml/events"] = (403, {"message": "no"})
    release.answers["GET /api/v1/namespaces/ml/persistentvolumeclaims"] = (403, {"message": "no"})
    code, out, _ = call(capsys, "status")
    assert code == 0
    assert "▸ running" in out


def test_only_what_belongs_to_the_release_is_counted(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    serving = ray_cluster()
    serving["metadata"]["name"] = "judge-serve-x"
    serving["metadata"]["labels"]["ray.io/originated-from-crd"] = "RayService"
    release.add("rayclusters", serving)
    for name in ("another", "judge-serve-x"):
        pod = worker(gpus=4)
        pod["metadata"]["labels"]["ray.io/cluster"] = name
        release.add("pods", pod)
    assert json.loads(call(capsys, "status", "--json")[1])["gpus"]["held"] == 8


def test_the_cause_of_a_failed_stage_is_still_known_when_its_log_is_gone(cluster: KubernetesStub) -> None:
    cluster.add("rayjobs", job("train", "Failed", "FAILED"))
    cluster.add("pods", submitter(phase="Failed"))
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{AT} {said(Failure('no room'))}\n"
    watched = follower(None, None, None)
    first = watched.look()
    del cluster.logs["judge-train-0a1b2c3d-s1"]
    assert [view.stages[0].note for view in (first, watched.look())] == ["no room", "no room"]


def test_a_release_without_a_rayjob_has_not_ended() -> None:
    assert not Overview(Snapshot("judge", "ml", {}), [], Gpus(), [], None).ended


@pytest.mark.parametrize(
    ("deployment", "ray", "last"),
    [("Initializing", "", "RayJob judge-train-0a1b2c3d: made a RayCluster"), ("Running", "RUNNING", "None")],
)
def test_the_last_event_is_shown_of_a_stage_that_does_not_start_and_not_of_one_that_runs(
    cluster: KubernetesStub, deployment: str, ray: str, last: str
) -> None:
    cluster.add("rayjobs", job("train", deployment, ray))
    cluster.add("events", event("judge-train-0a1b2c3d", "CreatedRayCluster", "made a RayCluster", kind="RayJob"))
    assert str(follower(None, None, None).look().last_event).endswith(last)
