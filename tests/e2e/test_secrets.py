"""A secret's value is in the environment of a release's containers, and in no object, log, file or message."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator

import pytest
import yaml

from tests.chart.rendering import over
from tests.e2e.kube import Namespace, new_namespace, pairwise_rm, state_of, succeeded, wait_for
from tests.e2e_gitops.pairs import VALUES, put_pairs
from tests.paths import CHART

RELEASE = "judge"
DASHBOARD = "http://127.0.0.1:8265"
SECRETS = {
    "hub": {"HF_TOKEN": "hf_marked0huggingface0token"},
    "wandb": {"WANDB_API_KEY": "0123456789abcdefmarkedfedcba987654321000"},
    "store": {"AWS_ACCESS_KEY_ID": "MARKEDACCESSKEY", "AWS_SECRET_ACCESS_KEY": "marked+upload+secret"},
    "ray": {"auth_token": "marked-token-of-ray-0123456789abcdef0123456789abcdef"},
}
VALUES_WITH_SECRETS = {
    "secrets": {
        "huggingface": {"existingSecret": "hub"},
        "wandb": {"existingSecret": "wandb"},
        "upload": {"existingSecret": "store"},
    },
    "auth": {"existingSecret": "ray"},
}
MARKS = {
    text: name
    for secret in SECRETS.values()
    for name, value in secret.items()
    for text in (value, base64.b64encode(value.encode()).decode())
}
"""Each value, as it is and as a Secret holds it, and its name."""
KINDS = (
    "rayjobs,rayclusters,pods,jobs,configmaps,services,events,serviceaccounts,roles,rolebindings,networkpolicies,pvc"
)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """A release that has converted its pairs, with each kind of secret that the chart knows."""
    values = tmp_path_factory.mktemp("values") / "values.yaml"
    values.write_text(yaml.safe_dump(over(VALUES, VALUES_WITH_SECRETS)))
    with new_namespace("e2e-secrets") as namespace:
        for name, held in SECRETS.items():
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": held}
            namespace.kubectl("create", "-f", "-", stdin=json.dumps(secret))
        put_pairs(namespace)
        namespace.helm("install", RELEASE, str(CHART), f"--values={CHART / 'values-kind.yaml'}", f"--values={values}")
        ended = ("Complete", "Failed")
        wait_for(lambda: state_of(namespace.jobs()["convert"]) in ended, 300, "convert has ended", namespace.describe)
        assert succeeded(namespace.jobs()["convert"]), namespace.describe()
        yield namespace


def head(release: Namespace) -> str:
    [pod] = release.items("pods --selector=ray.io/node-type=head")
    return str(pod["metadata"]["name"])


ASK = """
import urllib.error, urllib.request
for job in (None, b'{"entrypoint": "true"}'):
    try:
        print(urllib.request.urlopen("http://127.0.0.1:8265/api/jobs/", data=job).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
JOIN = "import ray; ray.init(address='127.0.0.1:6379'); print('joined')"


def said_by_head(release: Namespace, script: str) -> str:
    return release.kubectl("exec", head(release), "--container=ray-head", "--", "bash", "-c", script)


def marked(text: str) -> list[str]:
    return sorted({name for mark, name in MARKS.items() if mark in text})


def test_the_head_has_them_all_in_its_environment(release: Namespace) -> None:
    # Else the others would find nothing either.
    wanted = {name for secret in SECRETS.values() for name in secret}
    assert set(marked(said_by_head(release, "env"))) == wanted


def test_no_object_but_the_secrets_holds_a_value(release: Namespace) -> None:
    shown = release.kubectl("get", KINDS, "-o", "yaml")
    assert "kind: RayJob" in shown
    assert "kind: Pod" in shown
    assert marked(shown) == []


def test_what_helm_has_rendered_and_keeps_holds_no_value(release: Namespace) -> None:
    shown = release.helm("get", "all", RELEASE)
    assert "kind: RayCluster" in shown
    assert marked(shown) == []


def test_no_log_of_a_container_holds_a_value(release: Namespace) -> None:
    for pod in release.items("pods"):
        log = release.kubectl("logs", pod["metadata"]["name"], "--all-containers", code=None)
        assert marked(log) == [], pod["metadata"]["name"]


@pytest.mark.parametrize("command", [("status", RELEASE), ("status", RELEASE, "--json"), ("logs", "convert", RELEASE)])
def test_no_command_shows_a_value(release: Namespace, command: tuple[str, ...]) -> None:
    said = pairwise_rm(*command, "--namespace", release.name)
    assert "convert" in said
    assert marked(said) == []


def test_no_file_on_the_volumes_nor_of_ray_s_logs_holds_a_value(release: Namespace) -> None:
    # Ray's logs name each job's runtime environment.
    patterns = " ".join(f"-e '{mark}'" for mark in MARKS)
    folders = "/mnt/data /mnt/runs /mnt/cache /tmp/ray/session_latest/logs/"
    assert said_by_head(release, f"grep -rlF -e pairwise {folders} | head -n 1")
    found = said_by_head(release, f"grep -rlaF {patterns} {folders} || test $? = 1")
    assert found == ""


def test_what_ray_tells_of_a_job_holds_no_value(release: Namespace) -> None:
    told = said_by_head(release, f"ray job list --address {DASHBOARD}")
    assert "pairwise-rm stage convert" in told
    assert marked(told) == []


def test_ray_lets_nobody_in_without_the_token(release: Namespace) -> None:
    # Where the network policies let someone through, or nothing enforces them: dashboard, job submission, GCS.
    def without(command: str) -> str:
        return said_by_head(release, f"env -u RAY_AUTH_TOKEN RAY_AUTH_MODE=disabled timeout 60 {command} 2>&1 || true")

    assert without(f"python3 -c {shlex.quote(ASK)}").split() == ["401", "401"]
    joined = without(f"python3 -c {shlex.quote(JOIN)}")
    assert "InvalidAuthToken" in joined, joined
    assert not joined.endswith("joined\n")
