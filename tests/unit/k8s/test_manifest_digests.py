"""`pairwise-rm validate --manifests`: each digest that a RayJob names is that of a recipe among the manifests."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairwise_rm.recipe.load import digest_of
from tests.unit.command_line import call

TRAIN, EVALUATE = "name: t\n", "name: t\nevaluate: {}\n"
D1, D2 = digest_of(TRAIN.encode()), digest_of(EVALUATE.encode())
OTHER = "3f2a0b1c9d8e"

Object = dict[str, Any]


def config(stage: str, content: str) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": f"j-{stage}"}, "data": {f"{stage}.yaml": content}}


def job(stage: str, digest: str, options: str = "", **spec: object) -> Object:
    pod = {
        "containers": [{"volumeMounts": [{"name": "recipe", "mountPath": "/etc/pairwise-rm"}]}],
        "volumes": [{"name": "recipe", "configMap": {"name": f"j-{stage}"}}],
    }
    labels = {"pairwise-rm.io/stage": stage, "app.kubernetes.io/instance": "j"}
    cluster = {"rayClusterSpec": {"headGroupSpec": {"template": {"spec": pod}}}}
    return {
        "kind": "RayJob",
        "metadata": {"name": f"j-{stage}", "labels": labels, "annotations": {"pairwise-rm.io/digest": digest}},
        "spec": {
            "entrypoint": f"pairwise-rm stage {stage} --recipe /etc/pairwise-rm/{stage}.yaml{options}",
            **(spec or cluster),
        },
    }


def both(train: str = TRAIN, after: str = D1) -> list[Object]:
    configs = [config("train", train), config("evaluate", EVALUATE)]
    return [*configs, job("train", D1), job("evaluate", D2, f" --after train={after}")]


def said(capsys: pytest.CaptureFixture[str], tmp_path: Path, objects: list[Object]) -> tuple[int, list[str]]:
    """Exit code and lines, without the file's path."""
    (tmp_path / "m.yaml").write_text(yaml.safe_dump_all(objects))
    code, out, err = call(capsys, "validate", "--manifests", str(tmp_path / "m.yaml"))
    return code, (out + err).replace(f"{tmp_path}/", "").splitlines()


def test_manifests_that_agree_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert said(capsys, tmp_path, both()) == (0, ["m.yaml: 2 RayJobs, each digest is that of its recipe"])


def test_manifests_come_from_a_pipe_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump({"kind": "List", "items": both()})))
    code, out, _ = call(capsys, "validate", "--manifests", "-")
    assert (code, out) == (0, "stdin: 2 RayJobs, each digest is that of its recipe\n")


def test_a_recipe_changed_behind_the_digests_is_a_line_for_each_of_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    changed = "name: t\ntrain: {steps: 7}\n"
    wanted = f"is {D1}, should be {digest_of(changed.encode())} (ConfigMap j-train, data.train.yaml)"
    assert said(capsys, tmp_path, both(train=changed)) == (
        2,
        [
            f"error: m.yaml: RayJob j-train: metadata.annotations pairwise-rm.io/digest {wanted}",
            f"error: m.yaml: RayJob j-evaluate: spec.entrypoint --after train {wanted}",
        ],
    )


def test_a_digest_that_is_waited_for_and_never_made_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, [line] = said(capsys, tmp_path, both(after=OTHER))
    assert (code, line) == (
        2,
        f"error: m.yaml: RayJob j-evaluate: spec.entrypoint --after train is {OTHER}, "
        f"should be {D1} (ConfigMap j-train, data.train.yaml)",
    )


def test_each_of_several_stages_that_a_job_waits_for_is_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    export = job("export", D1, f" --after train={OTHER} --after evaluate --input-timeout 1")
    code, lines = said(capsys, tmp_path, [*both(), config("export", TRAIN), export])
    assert (code, lines) == (
        2,
        [
            f"error: m.yaml: RayJob j-export: spec.entrypoint --after train is {OTHER}, "
            f"should be {D1} (ConfigMap j-train, data.train.yaml)"
        ],
    )


def test_a_job_of_a_shared_cluster_is_held_to_the_config_map_of_that(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    own = job("train", D1)["spec"]["rayClusterSpec"]
    cluster = {"kind": "RayCluster", "metadata": {"name": "j"}, "spec": own}
    shared = job("train", D1, f" --digest {OTHER}", clusterSelector={"ray.io/cluster": "j"})
    code, [line] = said(capsys, tmp_path, [config("train", TRAIN), cluster, shared])
    assert code == 2
    assert line.endswith(f"--digest of train is {OTHER}, should be {D1} (ConfigMap j-train, data.train.yaml)")


def test_stages_of_one_job_are_each_held_to_their_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    two = job("train", D1)
    command = two["spec"]["entrypoint"]
    two["spec"]["entrypoint"] = f'bash -c "{command.replace("train", "convert")} && {command} --digest {OTHER}"'
    configs = config("train", TRAIN)
    configs["data"]["convert.yaml"] = "name: c\n"
    code, [line] = said(capsys, tmp_path, [configs, two])
    assert code == 2
    assert f"--digest of train is {OTHER}" in line


def test_a_stage_whose_train_is_elsewhere_passes_and_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, [line] = said(capsys, tmp_path, [both()[1], both()[3]])
    assert (code, line) == (
        0, "m.yaml: 1 RayJob, each digest is that of its recipe (train, which is waited for, is not among them)"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ([job("train", D1)], "RayJob j-train: its ConfigMap j-train is not among these manifests"),
        ([job("train", D1), {**config("train", ""), "data": None}], "its ConfigMap j-train has no train.yaml"),
        ([job("train", D1, clusterSelector={"ray.io/cluster": "j"})], "its RayCluster j is not among these manifests"),
        ([{"kind": "RayJob", "metadata": {"name": "x"}}], "no RayJob of pairwise-rm in it"),
        ([], "no RayJob of pairwise-rm in it"),
        (["text"], "expected Kubernetes objects"),
    ],
)
def test_what_cannot_be_checked_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, objects: list[Object], words: str
) -> None:
    code, [line] = said(capsys, tmp_path, objects)
    assert code == 2
    assert words in line


def test_what_is_no_yaml_or_no_file_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("a: [")
    assert "m.yaml: not valid YAML" in call(capsys, "validate", "--manifests", str(tmp_path / "m.yaml"))[2]
    assert "no.yaml: no such file" in call(capsys, "validate", "--manifests", str(tmp_path / "no.yaml"))[2]
    assert "expected one of them" in call(capsys, "validate", "smoke", "--manifests", "-")[2]
