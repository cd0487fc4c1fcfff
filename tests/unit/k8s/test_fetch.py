"""Results come out of the volume whole or not at all, and nothing lands outside the folder that was asked for."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import Configuration
from websocket import ABNF

from pairwise_rm.errors import InputError, StageError
from pairwise_rm.k8s import fetch as k8s_fetch
from pairwise_rm.k8s import run_folder_tar, transfer
from pairwise_rm.k8s.client import Cluster, Target
from pairwise_rm.k8s.fetch import RunsVolume, check_target, pod_manifest, runs_volume
from pairwise_rm.k8s.objects import Object
from pairwise_rm.k8s.snapshot import Snapshot, newest_jobs
from pairwise_rm.k8s.transfer import unpack
from tests.unit.k8s_objects import NOW, container, head, job, ray_cluster

RUN = "/mnt/runs/judge/smoke-1"
CLUSTER = Cluster(Configuration(), Target("kubeconfig", "lab", "https://nowhere", "ml"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as the stages leave it, the pairs in their own place."""
    root = tmp_path / "run [1]"
    names = (
        "evaluation/report.html",
        "evaluation/after/metrics.json",
        "export/README.md",
        "export/model.safetensors",
        "train/metrics.jsonl",
        "train/train.log",
        "train/checkpoints/global_step_1/x.pt",
        "stages/train.json",
    )
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "manifest.json").write_text("{}")
    recipe = {"data": {"export": {"output_dir": str(tmp_path / "pairs")}}}
    (root / "train" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return root


def packed(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The program as it runs in the pod."""
    return subprocess.run([sys.executable, "-c", k8s_fetch._program(), *arguments], capture_output=True, check=False)


def names(output: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(output.partition(b"\n")[2])) as opened:
        return set(opened.getnames())


RESULTS = {
    "data/manifest.json",
    "evaluation/after/metrics.json",
    "evaluation/report.html",
    "export/README.md",
    "stages/train.json",
    "train/metrics.jsonl",
    "train/recipe.yaml",
}


def test_the_results_are_packed_without_weights_checkpoints_and_logs(run: Path) -> None:
    done = packed(str(run))
    assert done.returncode == 0
    assert names(done.stdout) == RESULTS
    sizes = [(run.parent / "pairs/manifest.json" if "data" in name else run / name).stat().st_size for name in RESULTS]
    assert int(done.stdout.partition(b"\n")[0]) == sum(sizes)


def test_the_weights_are_packed_when_they_are_asked_for(run: Path) -> None:
    assert names(packed(str(run), "weights").stdout) == RESULTS | {"export/model.safetensors"}


def test_what_a_writer_has_not_finished_is_left_out(run: Path) -> None:
    (run / "evaluation" / ".report.html.1.tmp").write_text("half")
    (run / "evaluation" / ".after.tmp").mkdir()
    (run / "evaluation" / ".after.tmp" / "metrics.json").write_text("half")
    assert names(packed(str(run)).stdout) == RESULTS


def test_a_run_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = packed(str(tmp_path / "none"))
    assert (done.returncode, done.stderr.decode()) == (
        run_folder_tar.NO_FOLDER,
        f"{tmp_path / 'none'}: no such folder\n",
    )


def test_what_was_packed_is_unpacked_with_its_checksums(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    came: list[int] = []
    files = unpack(io.BytesIO(packed(str(run)).stdout.partition(b"\n")[2]), tmp_path / "out", came.append)
    assert {file["name"] for file in files} == RESULTS
    assert (tmp_path / "out/evaluation/report.html").read_text() == "evaluation/report.html"
    assert sum(came) == sum(file["size"] for file in files)


def archive(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        member = tarfile.TarInfo(name)
        member.type, member.size, member.linkname = kind, len(content) if kind == tarfile.REGTYPE else 0, "/etc/passwd"
        opened.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("/etc/cron.d/x", tarfile.REGTYPE),
        ("../x", tarfile.REGTYPE),
        ("evaluation/../../x", tarfile.REGTYPE),
        ("a\\..\\x", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("hard", tarfile.LNKTYPE),
        ("pipe", tarfile.FIFOTYPE),
        ("folder", tarfile.DIRTYPE),
    ],
)
def test_a_member_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    with pytest.raises(StageError, match="expected a regular file inside the run folder"):
        unpack(io.BytesIO(archive(name, kind)), tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 600, 5000, 20_000])
def test_a_stream_that_is_cut_short_is_an_error(tmp_path: Path, cut: int) -> None:
    whole = archive("evaluation/report.html", content=b"x" * 30_000)
    with pytest.raises(StageError, match="broke off"):
        unpack(io.BytesIO(whole[:cut]), tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("mark", "weights", "words"),
    [
        (None, False, "holds other files"),
        ({"run_folder": "/mnt/runs/judge/other", "weights": False}, False, "holds another run, /mnt/runs/judge/other"),
        ({"run_folder": RUN, "weights": True}, False, "holds the weights too"),
    ],
)
def test_a_folder_with_something_else_is_left_alone(
    tmp_path: Path, mark: dict[str, Any] | None, weights: bool, words: str
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    if mark:
        (tmp_path / "fetched.json").write_text(json.dumps(mark))
    with pytest.raises(InputError, match=words):
        check_target(tmp_path, RUN, weights)


def test_a_new_an_empty_and_an_earlier_folder_are_taken(tmp_path: Path) -> None:
    check_target(tmp_path / "new", RUN, False)
    check_target(tmp_path, RUN, False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "fetched.json").write_text(json.dumps({"run_folder": RUN, "weights": False}))
    check_target(tmp_path, RUN, True)
    assert json.loads((tmp_path / "fetched.json").read_text()) == {"run_folder": RUN, "weights": False}


class Socket:
    """A pod's end of the connection: frames of (channel, bytes), then it closes."""

    def __init__(self, *frames: tuple[int, bytes]) -> None:
        self.frames = list(frames)
        self.sock = self

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def recv_data_frame(self, control_frame: bool) -> tuple[int, Any]:
        if not self.frames:
            return ABNF.OPCODE_CLOSE, None
        channel, data = self.frames.pop(0)
        return ABNF.OPCODE_BINARY, ABNF(data=bytes([channel]) + data)

    def close(self) -> None:
        self.frames = []


def output(monkeypatch: pytest.MonkeyPatch, *frames: tuple[int, bytes]) -> transfer.RemoteCommand:
    monkeypatch.setattr(transfer, "_connection", lambda *_: Socket(*frames))
    return transfer.RemoteCommand(CLUSTER, "judge-head-x1", "ray-head", ["python"])


SUCCESS = (3, b'{"status":"Success"}')


def test_the_output_of_a_command_is_read_across_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    with output(monkeypatch, (1, b"ab"), (2, b"12\n"), (1, b""), (1, b"cd"), SUCCESS) as stream:
        assert stream.read() == b"abcd"
        stream.finish()
        assert stream.stderr == "12"


def test_a_command_that_fails_tells_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = output(monkeypatch, (2, b"/mnt/x: no such folder\n"), (3, b'{"status":"Failure"}'))
    with pytest.raises(StageError, match="pod judge-head-x1: /mnt/x: no such folder"):
        stream.finish()


def test_a_connection_that_closes_without_the_commands_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageError, match="the transfer broke off: the connection was closed"):
        output(monkeypatch, (1, b"ab")).finish()


class Lost(Socket):
    def recv_data_frame(self, control_frame: bool) -> tuple[int, Any]:
        if self.frames:
            return super().recv_data_frame(control_frame)
        raise ConnectionResetError("reset by peer")


def snapshot_with_head() -> Snapshot:
    return Snapshot("judge", "ml", newest_jobs([job("export", "Complete", "SUCCEEDED")]), pods=[head()], now=NOW)


def test_a_fetch_writes_the_folder_with_its_list_of_files(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = packed(str(run))
    monkeypatch.setattr(transfer, "_connection", lambda *_: Socket((1, done.stdout), SUCCESS))
    target = tmp_path / "out"
    fetched = k8s_fetch.fetch(CLUSTER, snapshot_with_head(), target, False, print, lambda *_: None)
    assert set(fetched.files) == RESULTS
    marked = json.loads((target / "fetched.json").read_text())
    assert (marked["run_folder"], marked["weights"], len(marked["files"])) == (RUN, False, len(RESULTS))


def test_a_fetch_that_breaks_off_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = packed(str(run))
    monkeypatch.setattr(transfer, "_connection", lambda *_: Lost((1, done.stdout[:3000])))
    (tmp_path / "here").mkdir()
    with pytest.raises(StageError, match="broke off"):
        k8s_fetch.fetch(CLUSTER, snapshot_with_head(), tmp_path / "here/out", False, print, lambda *_: None)
    assert list((tmp_path / "here").iterdir()) == []


def test_a_run_folder_that_the_pod_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        transfer, "_connection", lambda *_: Socket((2, b"/x: no such folder\n"), (3, b'{"status":"Failure"}'))
    )
    with pytest.raises(StageError, match="/x: no such folder"):
        k8s_fetch.fetch(CLUSTER, snapshot_with_head(), tmp_path / "out", False, print, lambda *_: None)


def test_without_room_nothing_is_transferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_connection", lambda *_: Socket((1, b"999999999999999\nx"), SUCCESS))
    with pytest.raises(StageError, match="GB are to come"):
        k8s_fetch.fetch(CLUSTER, snapshot_with_head(), tmp_path / "out", False, print, lambda *_: None)
    assert list(tmp_path.iterdir()) == []


HEAD_SPEC = {
    "containers": [{"image": "repo/judge:1", "volumeMounts": [{"name": "runs", "mountPath": "/mnt/runs"}]}],
    "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": "team-claim"}}],
    "nodeSelector": {"pool": "cpu"},
}


def test_the_claim_of_the_runs_is_the_one_that_the_head_mounts() -> None:
    cluster = ray_cluster()
    cluster["spec"] = {"headGroupSpec": {"template": {"spec": HEAD_SPEC}}}
    snapshot = Snapshot("judge", "ml", newest_jobs([job()]), clusters={"judge": cluster}, now=NOW)
    found = runs_volume(snapshot, job(), RUN)
    assert (found.claim, found.mount, found.image) == ("team-claim", "/mnt/runs", "repo/judge:1")


def test_without_a_raycluster_the_releases_own_claim_is_taken() -> None:
    claim = {"metadata": {"name": "judge-runs", "labels": {"app.kubernetes.io/instance": "judge"}}}
    rayjob = job()
    rayjob["spec"]["submitterPodTemplate"] = {"spec": {"containers": [{"image": "repo/judge:1"}]}}
    snapshot = Snapshot("judge", "ml", newest_jobs([rayjob]), claims={"judge-runs": claim}, now=NOW)
    found = runs_volume(snapshot, rayjob, RUN)
    assert (found.claim, found.mount, found.image) == ("judge-runs", "/mnt/runs", "repo/judge:1")
    with pytest.raises(StageError, match="RayCluster judge is gone"):
        runs_volume(Snapshot("judge", "ml", {}, claims={}, now=NOW), rayjob, RUN)
    with pytest.raises(StageError, match="permission to list persistentvolumeclaims in namespace ml"):
        runs_volume(Snapshot("judge", "ml", {}, claims=None, now=NOW), rayjob, RUN)


def test_the_temporary_pod_passes_restricted_and_reads_only() -> None:
    pod = pod_manifest("judge-fetch-1", "judge", RunsVolume("judge-runs", "/mnt/runs", "repo/judge:1", HEAD_SPEC))
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["volumeMounts"] == [{"name": "runs", "mountPath": "/mnt/runs", "readOnly": True}]
    assert spec["automountServiceAccountToken"] is False
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["nodeSelector"] == {"pool": "cpu"}


def test_a_claim_of_another_release_is_left_alone() -> None:
    claim = {"metadata": {"name": "other-runs", "labels": {"app.kubernetes.io/instance": "other"}}}
    rayjob = job()
    rayjob["spec"]["submitterPodTemplate"] = {"spec": {"containers": [{"image": "repo/judge:1"}]}}
    snapshot = Snapshot("judge", "ml", newest_jobs([rayjob]), claims={"other-runs": claim}, now=NOW)
    with pytest.raises(StageError, match="no claim of release judge is there to hold"):
        runs_volume(snapshot, rayjob, RUN)


def test_of_several_run_folders_that_of_the_last_stage_is_fetched() -> None:
    earlier = job("train")
    earlier["metadata"]["annotations"]["pairwise-rm.io/run-folder"] = "/mnt/runs/judge/earlier"
    snapshot = Snapshot("judge", "ml", newest_jobs([earlier, job("export")]), now=NOW)
    assert k8s_fetch.run_folder_of(snapshot) == (job("export"), RUN)


def test_a_head_of_another_stage_serves_when_the_stages_own_is_gone() -> None:
    export = job("export")
    export["spec"]["clusterSelector"] = {"ray.io/cluster": "judge-export"}
    snapshot = Snapshot("judge", "ml", newest_jobs([job("train"), export]), pods=[head()], now=NOW)
    with k8s_fetch._source(CLUSTER, snapshot, export, RUN, print) as source:
        assert source == ("judge-head-x1", "ray-head")


class OnePod(Cluster):
    """A cluster in which the pod of a fetch goes through these states."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self.states = list(states)

    def pod(self, name: str) -> Object:
        return {"metadata": {"name": name}, "status": self.states.pop(0)}

    def objects(self, kind: str, selector: str = "", everywhere: bool = False) -> list[Object]:
        return []


ABSENT_IMAGE = {
    "phase": "Pending",
    "containerStatuses": [container("fetch", {"waiting": {"reason": "ErrImageNeverPull"}})],
}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ABSENT_IMAGE, "pod judge-fetch-1 needs image repo/judge:1, which is not on its node"),
        ({"phase": "Failed"}, r"pod judge-fetch-1 did not start \(it is Failed\)"),
    ],
)
def test_a_pod_that_will_never_run_is_told_at_once(state: dict[str, Any], words: str) -> None:
    with pytest.raises(StageError, match=words):
        k8s_fetch._await(OnePod(state), "judge-fetch-1")


def test_a_pod_that_is_pending_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    k8s_fetch._await(OnePod({"phase": "Pending"}, {"phase": "Running"}), "judge-fetch-1")
    assert len(slept) == 1
