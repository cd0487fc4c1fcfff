"""A RayJob's name changes exactly when its stage must run again, a folder's exactly when what is in it is another's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.chart.rendering import RELEASE, STAGES, Object, Values, at, helm, jobs, loaded, nested, objects, over, text
from tests.chart.renderings import for_recipe
from tests.chart.value_table import DIGEST, TOLERATION
from tests.paths import CHART

ALL: set[str] = set(STAGES)
NONE: set[str] = set()
LATER = {"train", "evaluate", "export"}
QWEN: Values = {}
SMOKE = for_recipe("smoke")
EPHEMERAL: Values = {"mode": "ephemeral"}
SCRAPED: Values = {"networkPolicy": {"ingress": {"metrics": [{"podSelector": {}}]}}}


class Named(NamedTuple):
    jobs: dict[str, str]
    run_folder: str
    data_folder: str


def named(values: Values, release: str = RELEASE) -> Named:
    items = objects(text((), values, release=release))
    [content] = [item["data"]["convert.yaml"] for item in items if "convert.yaml" in item.get("data", {})]
    folder = jobs(items)["train"]["metadata"]["annotations"]["pairwise-rm.io/run-folder"]
    return Named(names(items), folder, loaded(content).data.export.output_dir or "")


def names(items: list[Object]) -> dict[str, str]:
    return {stage: job["metadata"]["name"] for stage, job in jobs(items).items()}


def changed(base: Values, settings: dict[str, Any]) -> tuple[set[str], bool, bool]:
    """Stages whose RayJob has another name, whether the run folder, and whether the data folder is another one."""
    before, after = named(base), named(over(base, nested(settings)))
    stages = {stage for stage, name in before.jobs.items() if after.jobs.get(stage) != name}
    return stages, before.run_folder != after.run_folder, before.data_folder != after.data_folder


# ---- the recipe ----------------------------------------------------------------------------------

# Convert checks what training will need, so a change of that runs it again; it finds its pairs in the same folder.
RECIPE = [
    # what is changed, in which recipe; stages that run again; another run folder; another data folder
    (QWEN, "evaluate.bootstrap", 500, {"evaluate"}, False, False),
    (QWEN, "evaluate.limit", 10, {"evaluate"}, False, False),
    (QWEN, "export.dtype", "float32", {"export"}, False, False),
    (QWEN, "train.learning_rate", 0.00002, ALL, True, False),
    (QWEN, "train.steps", 7, ALL, False, False),
    (QWEN, "train.save_every", 5, ALL, False, False),
    (QWEN, "train.verl", {"actor": {"clip": 1}}, ALL, True, False),
    (QWEN, "prompt.max_prompt_length", 2048, ALL, True, False),
    (QWEN, "reward.tie_credit", 0.5, ALL, True, False),
    (QWEN, "model.path", "Qwen/Qwen3-8B", ALL, True, False),
    (QWEN, "seed", 2, ALL, True, False),
    (QWEN, "data.configs.limit", 100, ALL, True, True),
    (QWEN, "data.export.split_seed", 7, ALL, True, True),
    (QWEN, "description", "another", NONE, False, False),
    (QWEN, "name", "mine", ALL, True, True),
    # Pairs that are made with the model go with it.
    (SMOKE, "seed", 2, ALL, True, True),
    (SMOKE, "train.learning_rate", 0.001, ALL, True, False),
]


@pytest.mark.parametrize(("base", "key", "setting", "stages", "run", "data"), RECIPE)
def test_a_changed_recipe_runs_just_the_stages_that_it_changes(
    base: Values, key: str, setting: Any, stages: set[str], run: bool, data: bool
) -> None:
    assert changed(base, {f"recipe.overrides.{key}": setting}) == (stages, run, data)


def test_an_override_of_what_the_recipe_says_anyway_runs_nothing() -> None:
    assert changed(QWEN, {"recipe.overrides.train": {"rollouts": 4, "kl_loss": {"coef": 0.001}}})[0] == NONE


# ---- all other values ----------------------------------------------------------------------------

OTHER = [
    (QWEN, "image.tag", "v2", ALL),
    (QWEN, "image.digest", DIGEST, ALL),
    (QWEN, "stages.train.gpuTimeout", 60, {"train"}),
    (QWEN, "stages.evaluate.inputTimeout", 60, {"evaluate"}),
    (QWEN, "stages.export.enabled", False, {"export"}),
    # Export waits for train where there is no evaluation.
    (QWEN, "stages.evaluate.enabled", False, {"evaluate", "export"}),
    (QWEN, "storage.upload", "s3://bucket/judges", {"evaluate", "export"}),
    # KubeRay starts the shared cluster anew, which ends what runs there.
    (QWEN, "head.resources.limits.memory", "9Gi", ALL),
    (QWEN, "poolDefaults.resources.limits.memory", "700Gi", ALL),
    (QWEN, "extraEnv", [{"name": "A", "value": "1"}], ALL),
    (QWEN, "secrets.huggingface.existingSecret", "hub", ALL),
    (QWEN, "autoscaling.idleTimeoutSeconds", 60, ALL),
    # It does not for these.
    (QWEN, "poolDefaults.maxReplicas", 4, NONE),
    (QWEN, "poolDefaults.minReplicas", 1, NONE),
    (QWEN, "poolDefaults.tolerations", [TOLERATION], NONE),
    (QWEN, "attempt", "2", ALL),
    (EPHEMERAL, "attempt", "2", ALL),
    (QWEN, "podDisruptionBudget.workers", True, NONE),
    (QWEN, "networkPolicy.enabled", False, NONE),
    (SCRAPED, "podMonitor.enabled", True, NONE),
    (QWEN, "grafanaDashboard.enabled", True, NONE),
    (QWEN, "storage.runs.size", "2Ti", NONE),
    (QWEN, "storage.runs.storageClass", "fast", NONE),
    (QWEN, "serviceAccount.annotations", {"role": "r"}, NONE),
    (QWEN, "checks.nodes", False, NONE),
    # A RayJob's own cluster is a part of it; converting has no workers.
    (EPHEMERAL, "poolDefaults.maxReplicas", 4, LATER),
    (EPHEMERAL, "head.resources.limits.memory", "9Gi", ALL),
    (EPHEMERAL, "batch.backoffLimit", 3, ALL),
    (EPHEMERAL, "networkPolicy.enabled", False, NONE),
]


@pytest.mark.parametrize(("base", "path", "setting", "stages"), OTHER)
def test_another_value_runs_just_the_stages_that_it_changes_and_in_the_same_folders(
    base: Values, path: str, setting: Any, stages: set[str]
) -> None:
    assert changed(base, {path: setting}) == (stages, False, False)


@pytest.mark.parametrize(
    ("key", "setting", "stages"),
    [
        ("evaluate.bootstrap", 500, {"evaluate"}),
        ("train.learning_rate", 0.00002, ALL),
        ("data.configs.limit", 100, ALL),
    ],
)
def test_a_changed_recipe_runs_the_same_stages_on_clusters_of_their_own(
    key: str, setting: Any, stages: set[str]
) -> None:
    assert changed(EPHEMERAL, {f"recipe.overrides.{key}": setting})[0] == stages


# ---- nothing changed -----------------------------------------------------------------------------


def again(chart: Path) -> list[Object]:
    done = subprocess.run([helm(), "template", RELEASE, str(chart)], capture_output=True, text=True, check=True)
    return objects(done.stdout)


def test_the_same_values_give_the_same_rendering() -> None:
    assert again(CHART) == objects(text((), {}))


def test_a_new_version_of_the_chart_alone_runs_nothing_and_leaves_every_pod_as_it_is(tmp_path: Path) -> None:
    newer = shutil.copytree(CHART, tmp_path / "pairwise-rm")
    head = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(head.replace("\nversion: ", "\nversion: 9"))
    before, after = objects(text((), {})), again(newer)
    label = "RayCluster metadata labels helm.sh/chart"
    assert at(after, label) != at(before, label)
    assert names(after) == names(before)
    assert at(after, "RayCluster spec") == at(before, "RayCluster spec")


def test_two_releases_in_one_namespace_share_no_object_and_no_folder() -> None:
    one, two = (objects(text((), {}, release=release)) for release in ("judge", "judge-2"))
    ours, theirs = ({(item["kind"], item["metadata"]["name"]) for item in items} for items in (one, two))
    assert ours & theirs == set()
    for folder in ("run_folder", "data_folder"):
        assert getattr(named({}), folder) != getattr(named({}, "judge-2"), folder)
