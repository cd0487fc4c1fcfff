"""What must hold in every rendering: each preset, each shipped recipe, each group of values."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml

from pairwise_rm.cli.app import app
from tests.chart.pod_security import container_violations, violations
from tests.chart.rendering import STAGE_LABEL, STAGES, Object, clusters, jobs, loaded, objects, pod_specs
from tests.chart.renderings import CASES, rendering
from tests.paths import CHART

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
# Resources that any node has; all others are devices.
NODE_RESOURCES = {"cpu", "memory", "ephemeral-storage"}
# Variables that name the file in which one container of the head hands Ray's token to another.
TOKEN_FILES = ("RAY_AUTH_TOKEN_PATH", "PAIRWISE_RM_TOKEN_FILE")
SECRET = re.compile(r"TOKEN|PASSWORD|SECRET|(^|_)KEY(_|$)|CREDENTIAL")
STAGE = typer.main.get_command(app).commands["stage"]  # type: ignore[attr-defined]
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())

pytestmark = pytest.mark.parametrize("items", [pytest.param(case, id=case) for case in CASES], indirect=True)


@pytest.fixture
def items(request: pytest.FixtureRequest) -> list[Object]:
    return objects(rendering(request.param))


def of_kind(items: list[Object], kind: str) -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in items if item["kind"] == kind}


def pods(items: list[Object]) -> Iterator[tuple[str, Object]]:
    for item in items:
        for path, spec in pod_specs(item):
            yield f"{item['kind']}/{item['metadata']['name']}{path}", spec


def containers(items: list[Object]) -> Iterator[tuple[str, Object]]:
    """All containers; KubeRay makes one of `autoscalerOptions`."""
    for where, spec in pods(items):
        for container in (*spec["containers"], *spec.get("initContainers", [])):
            yield f"{where} {container['name']}", container
    for cluster in clusters(items):
        if cluster["enableInTreeAutoscaling"]:
            yield "autoscaler", cluster["autoscalerOptions"]


def recipe_files(items: list[Object], job: Object) -> dict[str, str]:
    """The ConfigMap that the RayJob's head mounts: the shared cluster's, or its own."""
    shared = [item for item in items if item["kind"] == "RayCluster"]
    [cluster] = shared if "clusterSelector" in job["spec"] else [{"spec": job["spec"]["rayClusterSpec"]}]
    volumes = cluster["spec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    [name] = [volume["configMap"]["name"] for volume in volumes if volume["name"] == "recipe"]
    data: dict[str, str] = of_kind(items, "ConfigMap")[name]["data"]
    return data


def digest(items: list[Object], job: Object, stage: str) -> str:
    """Of just the bytes that the stage reads."""
    return hashlib.sha256(recipe_files(items, job)[f"{stage}.yaml"].encode()).hexdigest()[:12]


def commands(job: Object) -> list[tuple[str, dict[str, Any]]]:
    """Stage and parameters of each command of a RayJob, as our own command line reads them."""
    words = shlex.split(job["spec"]["entrypoint"])
    lines = [job["spec"]["entrypoint"]] if words[0] != "bash" else words[2].split(" && ")
    assert words[0] != "bash" or words[1] == "-c"
    return [(parameters["name"], parameters) for parameters in map(parameters_of, lines)]


@cache
def parameters_of(line: str) -> dict[str, Any]:
    program, name, *arguments = shlex.split(line)
    assert (program, name) == ("pairwise-rm", "stage")
    parameters: dict[str, Any] = STAGE.make_context("stage", arguments).params
    return parameters


# ---- Ray -----------------------------------------------------------------------------------------


def test_the_head_takes_no_work_and_asks_for_no_device(items: list[Object]) -> None:
    for cluster in clusters(items):
        head = cluster["headGroupSpec"]
        assert (head["rayStartParams"]["num-cpus"], head["rayStartParams"]["num-gpus"]) == ("0", "0")
    for where, container in containers(items):
        if "ray-worker" not in where:
            asked = {key for side in container["resources"].values() for key in side}
            assert asked <= NODE_RESOURCES, where


def test_the_first_container_of_a_ray_pod_is_ray_s(items: list[Object]) -> None:
    for cluster in clusters(items):
        groups = {"ray-head": [cluster["headGroupSpec"]], "ray-worker": cluster.get("workerGroupSpecs", [])}
        for name, specs in groups.items():
            assert {group["template"]["spec"]["containers"][0]["name"] for group in specs} <= {name}


def test_a_rayjob_says_its_stage_and_a_hash_within_47_characters(items: list[Object]) -> None:
    for stage, job in jobs(items).items():
        name = job["metadata"]["name"]
        assert len(name) <= 47
        assert DNS_1035.fullmatch(name)
        assert re.search(rf"-{stage}-[0-9a-f]{{8}}$", name)
    for item in items:
        assert len(item["metadata"]["name"]) <= 53
        assert DNS_1035.fullmatch(item["metadata"]["name"])


def test_what_the_operator_would_fill_in_is_rendered(items: list[Object]) -> None:
    for job in jobs(items).values():
        assert {"backoffLimit", "submissionMode", "ttlSecondsAfterFinished"} <= set(job["spec"])
    for cluster in clusters(items):
        for group in cluster.get("workerGroupSpecs", []):
            assert {"replicas", "minReplicas", "maxReplicas", "numOfHosts", "scaleStrategy"} <= set(group)
            assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_kuberay_allows_what_a_rayjob_combines(items: list[Object]) -> None:
    for job in jobs(items).values():
        spec = job["spec"]
        alone = spec.get("shutdownAfterJobFinishes", False)
        if "clusterSelector" in spec:
            assert {"rayClusterSpec", "suspend", "deletionStrategy", "shutdownAfterJobFinishes"}.isdisjoint(spec)
            assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (0, 0)
        else:
            assert "rayClusterSpec" in spec
        assert alone or not (spec.get("suspend") or spec["ttlSecondsAfterFinished"])
        assert not (alone and "deletionStrategy" in spec)
        assert (
            (spec["submissionMode"] == "K8sJobMode") == ("submitterPodTemplate" in spec) == ("submitterConfig" in spec)
        )


def test_the_entrypoint_is_a_command_of_ours_with_the_digest_of_what_is_mounted(items: list[Object]) -> None:
    for stage, job in jobs(items).items():
        found = commands(job)
        assert found[-1][0] == stage
        assert [name for name, _ in found] == [name for name in STAGES if name in dict(found)]
        for name, given in found:
            assert given["recipe"] == Path(f"/etc/pairwise-rm/{name}.yaml")
            assert given["digest"] == (digest(items, job, name) if "clusterSelector" in job["spec"] else None)
        assert job["metadata"]["annotations"]["pairwise-rm.io/digest"] == digest(items, job, stage)


def test_a_rayjob_waits_for_the_stage_before_it_with_the_digest_that_this_one_runs_with(items: list[Object]) -> None:
    run = {name: digest(items, job, name) for job in jobs(items).values() for name, _ in commands(job)}
    for job in jobs(items).values():
        (first, given), *rest = commands(job)
        assert [later["after"] or [] for _, later in rest] == [[]] * len(rest)
        pairs, judge = ([f"{name}={run[name]}"] if name in run else [] for name in ("convert", "train"))
        # A changed evaluation does not start export again, so export names none of its digests.
        evaluation = ["evaluate"] if "evaluate" in run else []
        wanted = {"convert": [], "train": pairs, "evaluate": judge, "export": [*judge, *evaluation]}
        assert list(given["after"] or []) == wanted[first]


def test_each_file_is_a_recipe_of_ours(items: list[Object]) -> None:
    for job in jobs(items).values():
        run_folder = job["metadata"]["annotations"]["pairwise-rm.io/run-folder"]
        for name, content in recipe_files(items, job).items():
            recipe = loaded(content)
            assert recipe.name == job["metadata"]["annotations"]["pairwise-rm.io/recipe"]
            assert recipe.output_dir == (None if name == "convert.yaml" else run_folder)
            assert (recipe.data.export.output_dir or "").startswith("/mnt/data/judge/")


# ---- Kubernetes ----------------------------------------------------------------------------------


def test_every_pod_passes_the_restricted_profile(items: list[Object]) -> None:
    assert {where: list(violations(spec)) for where, spec in pods(items) if list(violations(spec))} == {}
    for where, container in containers(items):
        assert list(container_violations(container)) == [], where


def test_every_container_has_a_memory_limit_that_holds_its_request(items: list[Object]) -> None:
    for where, container in containers(items):
        assert container["resources"]["limits"]["memory"], where


def test_no_secret_stands_in_a_rendering(items: list[Object]) -> None:
    assert "Secret" not in {item["kind"] for item in items}
    for where, container in containers(items):
        for variable in container.get("env", []):
            if variable["name"] in TOKEN_FILES:
                assert variable["value"] == "/run/pairwise-rm/token"
            elif SECRET.search(variable["name"]):
                assert set(variable["valueFrom"]) == {"secretKeyRef"}, where


def test_a_container_has_each_variable_and_each_port_once(items: list[Object]) -> None:
    for where, container in containers(items):
        for part in ("env", "ports", "volumeMounts"):
            names = [item.get("mountPath", item["name"]) for item in container.get(part, [])]
            assert len(names) == len(set(names)), where


def test_every_object_has_all_labels_and_every_pod_those_that_policies_select(items: list[Object]) -> None:
    wanted = {
        "app.kubernetes.io/instance": "judge",
        "app.kubernetes.io/version": VERSION["appVersion"],
        "app.kubernetes.io/managed-by": "Helm",
        "app.kubernetes.io/part-of": "pairwise-rm",
        "helm.sh/chart": f"pairwise-rm-{VERSION['version']}",
    }
    for item in items:
        assert wanted.items() <= item["metadata"]["labels"].items(), item["metadata"]["name"]
    # The chart's name, or nameOverride.
    assert {item["metadata"]["labels"]["app.kubernetes.io/name"] for item in items} in ({"pairwise-rm"}, {"judges"})
    ours = {key: wanted[f"app.kubernetes.io/{key}"] for key in ("instance", "part-of")}
    for stage, job in jobs(items).items():
        template = job["spec"].get("submitterPodTemplate", {"metadata": {"labels": {STAGE_LABEL: stage}}})
        assert template["metadata"]["labels"][STAGE_LABEL] == stage
    for template in templates(items):
        labels = template["metadata"]["labels"]
        assert {f"app.kubernetes.io/{key}": value for key, value in ours.items()}.items() <= labels.items()
        # What changes with the chart's version would restart the cluster.
        assert {"helm.sh/chart", "app.kubernetes.io/version"}.isdisjoint(labels)


def templates(items: list[Object]) -> Iterator[Object]:
    for cluster in clusters(items):
        yield from (group["template"] for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])))
    for job in jobs(items).values():
        yield from filter(None, [job["spec"].get("submitterPodTemplate")])


def test_what_a_pod_names_is_there(items: list[Object]) -> None:
    configs, claims, accounts = (
        of_kind(items, kind) for kind in ("ConfigMap", "PersistentVolumeClaim", "ServiceAccount")
    )
    for where, spec in pods(items):
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in configs, where
            if "persistentVolumeClaim" in volume:
                name = volume["persistentVolumeClaim"]["claimName"]
                assert name in claims or name.startswith("my-"), where
        for container in (*spec["containers"], *spec.get("initContainers", [])):
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted <= set(volumes) | {"shm"}, where
        account = spec.get("serviceAccountName", "default")
        assert account in accounts or account == "default", where


def test_claims_outlive_the_release(items: list[Object]) -> None:
    for claim in of_kind(items, "PersistentVolumeClaim").values():
        # `note` is of commonAnnotations, see value_table.py.
        own = {key: value for key, value in claim["metadata"]["annotations"].items() if key != "note"}
        assert own == {
            "helm.sh/resource-policy": "keep",
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
            "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
            "kustomize.toolkit.fluxcd.io/prune": "disabled",
        }


API_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
DASHBOARD_WAITS = ("RAY_DASHBOARD_STARTUP_TIMEOUT_S", "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT")


def test_only_the_autoscaler_and_its_standby_have_a_token_of_the_kubernetes_api(items: list[Object]) -> None:
    for where, spec in pods(items):
        assert spec["automountServiceAccountToken"] is False, where
        others = [one for one in spec.get("initContainers", []) if one["name"] != "autoscaler-standby"]
        for container in [*spec["containers"], *others]:
            names = {mount["name"] for mount in container.get("volumeMounts", [])}
            held = {volume["name"] for volume in spec.get("volumes", []) if "projected" in volume}
            assert names.isdisjoint(held), where
    for cluster in clusters(items):
        volumes = cluster["headGroupSpec"]["template"]["spec"]["volumes"]
        projected = [volume["name"] for volume in volumes if "projected" in volume]
        mounts = cluster.get("autoscalerOptions", {}).get("volumeMounts", [])
        token = [mount["name"] for mount in mounts if mount["mountPath"] == API_TOKEN]
        assert projected == token == (["api-token"] if cluster["enableInTreeAutoscaling"] else [])


def test_an_autoscaler_has_a_standby_that_kubernetes_starts_again(items: list[Object]) -> None:
    for cluster in clusters(items):
        head = cluster["headGroupSpec"]["template"]["spec"]
        standby = [one for one in head.get("initContainers", []) if one["name"] == "autoscaler-standby"]
        assert len(standby) == int(cluster["enableInTreeAutoscaling"])
        for one in standby:
            assert one["restartPolicy"] == "Always"
            assert API_TOKEN in {mount["mountPath"] for mount in one["volumeMounts"]}
            assert one["resources"]["limits"] == cluster["autoscalerOptions"]["resources"]["limits"]


def test_only_the_head_and_the_standby_have_the_folder_of_ray_s_token(items: list[Object]) -> None:
    for where, spec in pods(items):
        containers = [*spec["containers"], *spec.get("initContainers", [])]
        mounts = {one["name"]: {mount["name"]: mount for mount in one.get("volumeMounts", [])} for one in containers}
        held = {name for name, found in mounts.items() if "head-token" in found}
        assert held in (set(), {"ray-head", "autoscaler-standby"}), where
        if held:
            assert mounts["autoscaler-standby"]["head-token"]["readOnly"] is True
            [volume] = [volume for volume in spec["volumes"] if volume["name"] == "head-token"]
            assert volume["emptyDir"]["medium"] == "Memory"


def test_a_head_is_ready_when_its_dashboard_answers(items: list[Object]) -> None:
    for cluster in clusters(items):
        head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
        assert head["readinessProbe"]["httpGet"] == {"path": "/api/gcs_healthz", "port": 8265}


def test_a_head_without_a_dashboard_does_not_stay(items: list[Object]) -> None:
    for cluster in clusters(items):
        assert cluster["headGroupSpec"]["rayStartParams"]["include-dashboard"] == "true"
        head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
        waits = {variable["name"]: variable.get("value") for variable in head["env"] if "_TIMEOUT" in variable["name"]}
        startup = head["startupProbe"]
        assert waits == dict.fromkeys(DASHBOARD_WAITS, str(startup["periodSeconds"] * startup["failureThreshold"]))


def test_a_head_starts_without_ray_s_client_server(items: list[Object]) -> None:
    for cluster in clusters(items):
        head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
        [hook] = [variable["value"] for variable in head["env"] if variable["name"] == "RAY_START_HOOK"]
        module, _, name = hook.rpartition(".")
        parameters = SimpleNamespace(ray_client_server_port=10001)
        getattr(import_module(module), name)(parameters, True)
        assert parameters.ray_client_server_port is None
        assert 10001 not in {port["containerPort"] for port in head["ports"]}


def test_policies_deny_all_but_what_they_list_for_every_pod(items: list[Object]) -> None:
    policies = of_kind(items, "NetworkPolicy")
    if not policies:
        return
    [all_pods] = [policy["spec"] for name, policy in policies.items() if not name.endswith("-head")]
    assert all_pods["policyTypes"] == ["Ingress", "Egress"]
    for template in templates(items):
        selector = all_pods["podSelector"]["matchLabels"]
        assert selector.items() <= template["metadata"]["labels"].items()
    assert [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}] in [
        rule.get("ports") for rule in all_pods["egress"]
    ]
    for policy in policies.values():
        assert all(rule.get("from") for rule in policy["spec"]["ingress"])
        assert all(rule.get("to") or rule["ports"] == [{"port": 9}] for rule in policy["spec"]["egress"])
        # A selector of all namespaces lets in whoever can make a pod.
        peers = [peer for rule in policy["spec"]["ingress"] for peer in rule["from"]]
        assert not any(peer.get("namespaceSelector") == {} for peer in peers)
