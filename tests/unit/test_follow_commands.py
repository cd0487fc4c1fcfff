"""The commands that follow a release, against an API server on a real socket: what is printed, and how they exit."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from follow_objects import container, job, ray_cluster, submitter, worker
from kubernetes_stub import KubernetesStub, kubeconfig
from rich.console import Console

from pairwise_rm.cli import app
from pairwise_rm.cli import console as console_module
from pairwise_rm.cli.wait import seconds_from
from pairwise_rm.errors import InputError
from pairwise_rm.follow import logs, patience, waiting
from pairwise_rm.lines import StepLine

STEP = StepLine(3, 20, 0.412, 0.5, 0.98, 0.0012, 9.1, 160.0)
AT = "2025-10-09T08:53:10.123456789Z"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesStub]:
    """A cluster with nothing in it, which the kubeconfig names."""
    monkeypatch.setattr(console_module, "console", Console(width=140, highlight=False, soft_wrap=True))
    stub = KubernetesStub()
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(stub.url)))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    for module, name in ((waiting, "POLL_SECONDS"), (logs, "_PAUSE_SECONDS"), (patience, "_PAUSE_SECONDS")):
        monkeypatch.setattr(module, name, 0.01)
    yield stub
    stub.close()


@pytest.fixture
def release(cluster: KubernetesStub) -> KubernetesStub:
    """Release `judge`: convert is done, train is at step 3 of 20 on 8 GPUs, export waits."""
    cluster.add("rayclusters", ray_cluster())
    cluster.add("rayjobs", job("convert", "Complete", "SUCCEEDED"), job("train"), job("export"))
    cluster.add("pods", worker(gpus=8), submitter("train"), submitter("export"))
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{AT} ▸ train  a -> b\n{AT}   {STEP}\n"
    cluster.logs["judge-export-0a1b2c3d-s1"] = f"{AT} ▸ export  waiting for train (running) (0:01:00)\n"
    return cluster


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        app.main(list(arguments))
    output = capsys.readouterr()
    assert done.value.code is None or isinstance(done.value.code, int)
    return done.value.code or 0, output.out, output.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one line of an error."""
    code, _, err = call(capsys, *arguments)
    assert err.count("\n") == 1, err
    return code, err.removeprefix("error: ").rstrip("\n")


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


def test_the_table_of_a_narrow_terminal_keeps_every_word(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "console", Console(width=60, highlight=False, soft_wrap=True))
    _, out, _ = call(capsys, "status", "judge")
    assert max(map(len, out.splitlines())) <= 60
    assert all(word in out for word in ("step", "3/20", "0.412", "succeeded", "waiting")), out


def test_json_has_the_same_as_numbers(release: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "status", "judge", "--json")
    found = json.loads(out)
    train = found["stages"][1]
    assert code == 0
    assert (found["release"], found["run_folder"]) == ("judge", "/mnt/runs/judge/smoke-1")
    assert (train["state"], train["step"], train["last_step"], train["reward"]) == ("running", 3, 20, 0.412)
    assert train["gpus"] == {"held": 8, "waited": 0}
    assert (train["job_status"], train["deployment_status"]) == ("RUNNING", "Running")


def test_a_trouble_stands_under_the_table(cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    status = container("ray-worker", {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})
    cluster.add("rayjobs", job("train", "Initializing", ""))
    cluster.add("pods", worker("Pending", containerStatuses=[status]))
    _, out, _ = call(capsys, "status")
    assert "✗ worker pod judge-a100-worker-x1 cannot pull image repo/judge:1: not found" in out
    assert "GPUs of its RayCluster: 1 waited for" in out


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


@pytest.mark.parametrize("arguments", [("status", "nope"), ("logs", "train", "nope"), ("fetch", "nope")])
def test_a_release_that_is_not_there_names_those_that_are(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert refused(capsys, *arguments) == (2, "release nope: not in namespace ml, which has judge")


def test_of_two_releases_one_must_be_named(release: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    second = job()
    second["metadata"]["labels"]["app.kubernetes.io/instance"] = "other"
    release.add("rayjobs", second)
    code, line = refused(capsys, "status")
    assert (code, line) == (2, "namespace ml has several releases; name one of judge, other")


def test_a_release_in_another_namespace_is_pointed_to(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = refused(capsys, "status", "-n", "default")
    assert code == 2
    assert line.startswith("no release in namespace default of ")
    assert line.endswith("; with -n: ml has judge")


def test_no_kubeconfig_is_told_with_its_path(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, line = refused(capsys, "status")
    assert code == 2
    assert line.startswith(f"no kubeconfig: {tmp_path}/none (named by KUBECONFIG): no such file")


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("][", (), "not a kubeconfig"),
        ("", (), "not a kubeconfig"),
        (kubeconfig("http://x"), ("--context", "prod"), "--context prod: {} has no such context; it has lab"),
        ({**kubeconfig("http://x"), "current-context": "gone"}, (), "{}: no current context that it has"),
    ],
)
def test_a_kubeconfig_that_does_not_serve_is_told_with_its_path(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: object,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    path = tmp_path / "config"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(path))
    code, line = refused(capsys, "status", *arguments)
    assert code == 2
    assert words.format(path) in line
    assert str(path) in line


def test_an_api_server_out_of_reach_is_told_with_the_context(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig(url)))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        code, line = refused(capsys, "status")
    assert (code, line) == (1, f"{url} (context lab of {tmp_path}/config): out of reach: Connection refused")


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (
            (403, {"message": 'rayjobs.ray.io is forbidden: User "ada" cannot list resource "rayjobs" in …'}),
            1,
            "no permission to list rayjobs.ray.io in namespace ml as ada; ask the cluster's administrator for a Role "
            "with it (`kubectl auth can-i list rayjobs.ray.io -n ml` checks)",
        ),
        ((401, {"message": "Unauthorized"}), 1, "the credentials are refused (401); log in to the cluster again"),
        ((503, "<html>bad gateway</html>"), 1, "the API server answers 503: <html>bad gateway</html>"),
        ((422, {"message": "what?"}), 1, "list rayjobs.ray.io in namespace ml: what? (422)"),
    ],
)
def test_what_the_api_server_refuses_is_one_sentence(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str], answer: tuple[int, object], code: int, words: str
) -> None:
    cluster.answers["GET /apis/ray.io/v1/namespaces/ml/rayjobs"] = answer
    found = refused(capsys, "status")
    assert found[0] == code
    assert found[1].endswith(words)


def test_a_cluster_without_kuberay_is_told(cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.answers["GET /apis/ray.io/v1"] = (404, "404 page not found")
    code, line = refused(capsys, "status")
    assert code == 1
    assert "the cluster does not know ray.io/v1; KubeRay 1.6 or later is needed" in line


DEFINITION = "GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions/rayjobs.ray.io"


def definition(*fields: str) -> dict[str, object]:
    spec = {"properties": {field: {} for field in fields}}
    return {"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"properties": {"spec": spec}}}}]}}


@pytest.mark.parametrize(
    ("answer", "old"),
    [
        ((200, definition("suspend")), True),
        ((200, definition("suspend", "preRunningDeadlineSeconds")), False),
        ((403, {"message": "no"}), False),
    ],
)
def test_a_kuberay_before_1_6_is_told(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str], answer: tuple[int, object], old: bool
) -> None:
    release.kinds = ("rayjobs", "rayclusters", "rayservices")
    release.answers[DEFINITION] = answer
    code, _, err = call(capsys, "status")
    assert code == (1 if old else 0)
    assert ("the RayJob CRD is older than KubeRay 1.6" in err) is old


def test_waiting_for_a_stage_that_is_done_exits_0(release: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "wait", "--for", "convert")
    assert (code, err) == (0, "")
    assert out.endswith("convert succeeded\n")


def test_waiting_for_a_stage_that_failed_exits_1_with_its_own_error_line(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("rayjobs", job("train", "Failed", "FAILED", message="Job failed", reason="AppFailed"))
    cluster.add("pods", submitter(phase="Succeeded"))
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{AT} error: /mnt/data: no such file\n"
    assert refused(capsys, "wait", "--for", "train") == (1, "train failed: /mnt/data: no such file")


def test_waiting_ends_at_its_time_and_says_why(release: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capsys, "wait", "--for", "export", "--timeout", "0s")
    assert code == 1
    assert line.startswith("export is not done after 0 s: it is waiting for train (running)")


def test_waiting_ends_at_once_when_nothing_can_come_of_it(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    status = container("ray-worker", {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})
    cluster.add("rayjobs", job("train", "Initializing", ""))
    cluster.add("pods", worker("Pending", containerStatuses=[status]))
    code, line = refused(capsys, "wait", "--for", "train", "--timeout", "1h")
    assert code == 1
    assert line.startswith("train cannot go on (starting): worker pod judge-a100-worker-x1 cannot pull image")


def test_waiting_goes_on_without_gpus_and_tells_it(cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    placed = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    }
    cluster.add("rayjobs", job("train", "Initializing", ""))
    cluster.add("pods", worker("Pending", gpus=8, conditions=[placed]))
    code, out, err = call(capsys, "wait", "--for", "train", "--timeout", "1s")
    assert code == 1
    assert out.count("! worker pod judge-a100-worker-x1 waits for 8 nvidia.com/gpu") == 1
    assert "train is not done after 1 s: it is starting, the head of judge is starting: worker pod" in err


def test_a_stage_that_the_release_lacks_is_told_with_those_that_it_has(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "wait", "--for", "evaluate") == (
        2,
        "stage 'evaluate': release judge has convert, train, export; set stages.evaluate.enabled for it",
    )


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400)])
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert seconds_from(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "soon", "-1s", "1.5h", "30m2h"])
def test_no_other_time_is_read(text: str) -> None:
    with pytest.raises(InputError, match="expected a time such as 90s, 30m, 2h"):
        seconds_from(text)


def test_the_log_is_the_submitters_without_its_times(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "logs", "train") == (0, f"▸ train  a -> b\n  {STEP}\n", "")


def test_following_the_log_of_a_stage_that_has_ended_ends(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("rayjobs", job("train", "Complete", "SUCCEEDED"))
    cluster.add("pods", submitter(phase="Succeeded"))
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{AT} one\n{AT[:-2]}9Z two\n"
    assert call(capsys, "logs", "train", "-f") == (0, "one\ntwo\n", "train succeeded\n")


def test_a_log_that_is_not_there_yet_is_told(cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add("rayjobs", job("train", "Initializing", ""))
    code, line = refused(capsys, "logs", "train")
    assert (code, line) == (1, "train has no log yet (starting, the head of judge is starting); -f waits for it")


def test_a_container_that_has_not_started_has_no_log_yet(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("rayjobs", job("train", "Running", ""))
    cluster.add("pods", submitter(phase="Pending"))
    cluster.answers["GET /api/v1/namespaces/ml/pods/judge-train-0a1b2c3d-s1/log"] = (
        400,
        {"message": 'container "ray-job-submitter" in pod "x" is waiting to start: ContainerCreating'},
    )
    code, line = refused(capsys, "logs", "train")
    assert code == 1
    assert line.endswith("is waiting to start: ContainerCreating); -f waits for it")


def test_without_a_submitter_pod_it_says_where_the_log_is(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    over_http = job("train")
    over_http["spec"]["submissionMode"] = "HTTPMode"
    cluster.add("rayjobs", over_http)
    code, line = refused(capsys, "logs", "train")
    assert code == 1
    assert "has no submitter pod, since submission.mode is HTTPMode" in line
    assert "/mnt/runs/judge/smoke-1 keeps train/train.log" in line
