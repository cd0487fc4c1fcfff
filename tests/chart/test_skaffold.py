"""`skaffold.yaml` holds to its schema, before and after each profile, and names files and values that are there."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
import yaml

from tests.chart.crd_schemas import schema_file
from tests.chart.rendering import rendered
from tests.paths import REPO

Config = dict[str, Any]


def base() -> Config:
    loaded: Config = yaml.safe_load((REPO / "skaffold.yaml").read_text())
    return loaded


def with_profile(name: str | None) -> Config:
    """The configuration that skaffold makes of a profile's JSON patches (add and replace are all we use)."""
    config = copy.deepcopy(base())
    for profile in config.pop("profiles"):
        for patch in profile["patches"] if profile["name"] == name else []:
            *parents, last = patch["path"].lstrip("/").split("/")
            target: Any = config
            for part in parents:
                target = target[int(part) if isinstance(target, list) else part]
            assert (patch["op"], last in target) in [("add", False), ("replace", True)]
            target[last] = patch["value"]
    return config


def release(config: Config) -> Config:
    [found] = config["deploy"]["helm"]["releases"]
    return dict(found)


def wrong(config: Config) -> list[str]:
    file = schema_file("skaffold-v4beta14.json")
    assert config["apiVersion"] == f"skaffold/{file.stem.removeprefix('skaffold-')}"
    errors = jsonschema.Draft7Validator(json.loads(file.read_text())).iter_errors(config)
    return [f"{error.json_path}: {error.message}" for error in errors]


def test_the_whole_file_holds_to_the_schema_and_a_misspelt_key_does_not() -> None:
    assert wrong(base()) == []
    assert wrong({**base(), "portForwards": []}) != []


@pytest.mark.parametrize("name", ["kind", "gpu"])
def test_a_profile_holds_to_the_schema_and_names_files_and_a_target_that_are_there(name: str) -> None:
    config = with_profile(name)
    assert wrong(config) == []
    [artifact] = config["build"]["artifacts"]
    dockerfile = (REPO / artifact["docker"]["dockerfile"]).read_text().lower()
    assert f" as {artifact['docker']['target']}\n" in dockerfile
    assert all((REPO / file).is_file() for file in release(config)["valuesFiles"])
    assert (REPO / release(config)["chartPath"] / "Chart.yaml").is_file()


def test_copied_files_go_where_python_looks_first() -> None:
    config = base()
    [artifact] = config["build"]["artifacts"]
    [rule] = artifact["sync"]["manual"]
    assert release(config)["overrides"]["extraEnv"] == [{"name": "PYTHONPATH", "value": rule["dest"]}]
    assert list(REPO.glob(rule["src"]))


@pytest.mark.parametrize(("name", "tag"), [("kind", "0123abcd"), ("gpu", "0123abcd@sha256:" + "0" * 64)])
def test_the_release_of_a_profile_renders_with_the_built_image_in_every_pod(name: str, tag: str) -> None:
    found = release(with_profile(name))
    images = {"{{.IMAGE_REPO_pairwise_rm}}": "registry/pairwise-rm", "{{.IMAGE_TAG_pairwise_rm}}": "0123abcd"}
    images["{{.IMAGE_TAG_pairwise_rm}}@{{.IMAGE_DIGEST_pairwise_rm}}"] = tag
    settings = [f"--set={path}={images[template]}" for path, template in found["setValueTemplates"].items()]
    objects = rendered([REPO / file for file in found["valuesFiles"]], found["overrides"], *settings)
    [cluster] = objects["RayCluster"]
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    templates = [group["template"] for group in groups]
    for template in [*templates, *(job["spec"]["submitterPodTemplate"] for job in objects["RayJob"])]:
        assert [container["image"] for container in template["spec"]["containers"]] == [f"registry/pairwise-rm:{tag}"]
    for template in templates:
        [container] = template["spec"]["containers"]
        assert {"name": "PYTHONPATH", "value": "/home/ray/src"} in container["env"]
        assert "/home/ray" in [mount["mountPath"] for mount in container["volumeMounts"]]
