"""Errors before a release is found: kubeconfig, API server, permission, KubeRay, the name."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from pairwise_rm.k8s import client
from pairwise_rm.k8s.client import Unavailable
from tests.unit.command_line import call, refused
from tests.unit.k8s_objects import job
from tests.unit.kubernetes_stub import KubernetesStub, Object, kubeconfig


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
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str], answer: tuple[int, Object | str], code: int, words: str
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


def definition(*fields: str) -> Object:
    spec: Object = {"properties": {field: {} for field in fields}}
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
    release: KubernetesStub, capsys: pytest.CaptureFixture[str], answer: tuple[int, Object | str], old: bool
) -> None:
    release.kinds = ("rayjobs", "rayclusters", "rayservices")
    release.answers[DEFINITION] = answer
    code, _, err = call(capsys, "status")
    assert code == (1 if old else 0)
    assert ("the RayJob CRD is older than KubeRay 1.6" in err) is old


def test_an_api_server_that_is_away_for_a_moment_is_asked_again(cluster: KubernetesStub) -> None:
    answers: list[Unavailable | str] = [Unavailable("gone"), Unavailable("gone"), "there"]
    said: list[str] = []

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    assert client.with_retries(ask, said.append) == "there"
    assert said == ["gone; asking again"]


def test_an_api_server_that_stays_away_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_GIVE_UP_SECONDS", -1.0)

    def ask() -> str:
        raise Unavailable("gone")

    with pytest.raises(Unavailable):
        client.with_retries(ask, lambda _: None)
