"""A release as a user gets it: image and chart pulled from a registry, installed by `helm install oci://…`.

The registry is one of this machine (Debian's docker-registry), so the node's containerd must run here too:
`make release-check CLUSTER=1` sees to a cluster and to the cpu image. Only convert runs, on a few pairs: what is tested
is the way from the registry into a pod, and that the image which comes that way works.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from release import registry
from release.chart import package
from release.versions import version_of_package
from tests.e2e.kube import ENDED, Namespace, has_cluster, new_namespace, run, state_of, succeeded, tool, wait_for
from tests.e2e_gitops import pairs
from tests.paths import CHART

BUILT = "localhost/pairwise-rm:test"
RELEASE = "judge"
VERSION = version_of_package()
CONTAINERD = "/run/one-node-cluster/containerd.sock"
# The image is 6 GB, which the node pulls before the first pod starts.
ENDS_WITHIN = 900.0


@dataclass(frozen=True)
class Published:
    """An image by tag and digest, and a chart that names it."""

    image: str
    chart: str


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    if not has_cluster():
        pytest.fail("this test needs a cluster: `make release-check CLUSTER=1` starts one where it can")
    if not os.environ.get("PAIRWISE_RM_CLUSTER_IS_OURS"):
        pytest.skip("the node of somebody's cluster does not reach a registry of this machine")
    for name in ("docker-registry", "buildah"):
        if not shutil.which(name):
            pytest.skip(f"{name} is not installed (a package of Debian and Ubuntu)")
    work = tmp_path_factory.mktemp("published")
    with registry.registry() as host:
        name = f"{host}/pairwise-rm/pairwise-rm:{VERSION}-cpu"
        options = ("--quiet", "--tls-verify=false", "--disable-compression", "--digestfile", str(work / "digest"))
        run("buildah", "push", *options, BUILT, f"docker://{name}", timeout=900)
        image = f"{name}@{(work / 'digest').read_text().strip()}"
        chart = package(VERSION, work, image)
        run(tool("helm"), "push", str(chart), f"oci://{host}/pairwise-rm/charts", "--plain-http")
        yield Published(image, f"oci://{host}/pairwise-rm/charts/pairwise-rm")
    # What the node pulled is 6 GB that no other test uses; a cluster without ctr keeps it.
    subprocess.run(["ctr", "-a", CONTAINERD, "-n", "k8s.io", "images", "rm", image], check=False, capture_output=True)


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with new_namespace("e2e-release") as this:
        yield this


@pytest.fixture(scope="module")
def installed(published: Published, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """The chart with the kind preset, less its image: the one that the chart itself names is what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "IMAGE", published.image)
        pairs.put_pairs(namespace)
    preset = yaml.safe_load((CHART / "values-kind.yaml").read_text(encoding="utf-8"))
    del preset["image"], preset["recipe"]
    files = []
    for name, values in {"kind": preset, "pairs": pairs.VALUES}.items():
        file = Path(tmp_path_factory.mktemp("values")) / f"{name}.json"
        file.write_text(json.dumps(values), encoding="utf-8")
        files.append(f"--values={file}")
    namespace.helm("install", RELEASE, published.chart, "--version", VERSION, "--plain-http", *files)
    wait_for(
        lambda: any(state_of(job) in ENDED for job in namespace.jobs().values()),
        ENDS_WITHIN,
        "convert ended",
        namespace.describe,
    )
    return namespace


def test_convert_succeeds_with_chart_and_image_from_the_registry(installed: Namespace) -> None:
    jobs = installed.jobs()
    assert list(jobs) == ["convert"]
    assert succeeded(jobs["convert"]), installed.describe()


def test_every_pod_ran_the_image_that_the_chart_names_by_digest(installed: Namespace, published: Published) -> None:
    digest = published.image.partition("@")[2]
    statuses = [status for pod in installed.items("pods") for status in pod["status"]["containerStatuses"]]
    assert statuses
    assert {container["image"] for pod in installed.items("pods") for container in pod["spec"]["containers"]} == {
        published.image
    }
    assert all(status["imageID"].endswith(digest) for status in statuses), statuses


def test_the_pairs_were_converted_by_the_releases_version(installed: Namespace) -> None:
    [head] = installed.items("pods --selector=ray.io/node-type=head")
    container = (head["metadata"]["name"], "--container", "ray-head", "--", "sh", "-c")
    state = f"pairwise-rm --version; cat /mnt/data/{RELEASE}/*/stages/convert.json"
    said = installed.kubectl("exec", *container, state)
    assert said.startswith(f"pairwise-rm {VERSION}\n")
    assert re.search(r'"succeeded"', said), said
