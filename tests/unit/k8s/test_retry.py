"""Trying again makes new RayJobs of the failed ones, and says beforehand which; where Git rules, it says that."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pairwise_rm.progress import Failure
from tests.unit.command_line import call, refused
from tests.unit.k8s_objects import AT, Object, job, ray_cluster, said, submitter
from tests.unit.kubernetes_stub import KubernetesStub

COMMAND = "pairwise-rm stage {0} --recipe /etc/pairwise-rm/{0}.yaml --digest 38dd9c475e12 --after convert=1"


def failed(stage: str = "train", *, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    item = job(stage, "Failed", "FAILED", message="Job failed", reason="AppFailed")
    item["apiVersion"] = "ray.io/v1"
    item["metadata"]["namespace"] = "ml"
    item["metadata"]["annotations"] |= {"pairwise-rm.io/content": "0a1b2c3d", **(annotations or {})}
    item["spec"] |= {"entrypoint": COMMAND.format(stage), **spec}
    return item


@pytest.fixture
def after_a_failure(cluster: KubernetesStub) -> KubernetesStub:
    shared = ray_cluster()
    shared["metadata"]["labels"]["app.kubernetes.io/part-of"] = "pairwise-rm"
    cluster.add("rayclusters", shared)
    cluster.add("rayjobs", job("convert", "Complete", "SUCCEEDED"), failed("train"), failed("evaluate"))
    cluster.add("pods", submitter(phase="Succeeded"))
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{AT} {said(Failure('a worker is gone'))}\n"
    return cluster


def made(cluster: KubernetesStub) -> dict[str, Object]:
    """The RayJobs that were applied, by stage; each in Helm's name, so that Helm may change it."""
    found = {}
    for path, body in cluster.applied:
        assert path.endswith(f"/{body['metadata']['name']}?fieldManager=helm")
        if body["kind"] == "RayJob":
            found[body["metadata"]["labels"]["pairwise-rm.io/stage"]] = body
    return found


def test_the_failed_stages_are_told_with_their_causes_and_made_anew(
    after_a_failure: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "retry", "--yes")
    assert (code, err) == (0, "")
    jobs = made(after_a_failure)
    assert list(jobs) == ["train", "evaluate"]
    names = [item["metadata"]["name"] for item in jobs.values()]
    assert out.splitlines()[:3] == [
        "release judge in namespace ml: to be tried again, from where they ended",
        "  train     failed: a worker is gone",
        f"            judge-train-0a1b2c3d → {names[0]}",
    ]
    assert "left alone: convert succeeded" in out
    assert out.endswith("follow: pairwise-rm status judge -n ml\n")


def test_a_new_rayjob_is_the_failed_one_with_another_name_and_attempt(
    after_a_failure: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "retry", "--yes")
    new, old = made(after_a_failure)["train"], failed("train")
    retry = new["metadata"]["annotations"].pop("pairwise-rm.io/retry")
    assert new["metadata"]["annotations"] == old["metadata"]["annotations"]
    assert new["metadata"]["labels"] == old["metadata"]["labels"]
    assert re.fullmatch(r"judge-train-(?!0a1b2c3d)[0-9a-f]{8}", new["metadata"]["name"])
    command = old["spec"]["entrypoint"]
    assert new["spec"] == {**old["spec"], "entrypoint": command.replace(" --after", f" --attempt {retry} --after")}
    # The shared cluster takes it along when the release is uninstalled.
    owner = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "judge", "uid": "uid-judge"}
    assert new["metadata"]["ownerReferences"] == [owner]
    evaluate = made(after_a_failure)["evaluate"]
    assert evaluate["metadata"]["annotations"]["pairwise-rm.io/retry"] == retry


def test_asked_twice_at_once_makes_the_same_rayjobs(
    after_a_failure: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "retry", "--yes")
    first = made(after_a_failure)
    call(capsys, "retry", "--yes")
    assert made(after_a_failure) == first
    assert len(after_a_failure.applied) == 4


def test_a_rayjob_without_the_content_that_later_charts_write_gets_it_of_its_name(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    item = failed()
    del item["metadata"]["annotations"]["pairwise-rm.io/content"]
    cluster.add("rayjobs", item)
    call(capsys, "retry", "--yes")
    assert made(cluster)["train"]["metadata"]["annotations"]["pairwise-rm.io/content"] == "0a1b2c3d"


def test_an_earlier_attempt_in_the_command_is_replaced(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [COMMAND.format(stage).replace(" --after", " --attempt 99999999 --after") for stage in ("train", "export")]
    cluster.add("rayjobs", failed("export", entrypoint=f'bash -c "{steps[0]} && {steps[1]}"'))
    call(capsys, "retry", "--yes")
    new = made(cluster)["export"]
    retry = new["metadata"]["annotations"]["pairwise-rm.io/retry"]
    assert re.findall(r"--attempt (\S+)", new["spec"]["entrypoint"]) == [retry, retry]


def test_a_rayjob_with_a_cluster_of_its_own_gets_its_recipe_under_the_new_name(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    before = "judge-train-0a1b2c3d"
    pod = {"spec": {"volumes": [{"name": "recipe", "configMap": {"name": before}}, {"name": "tmp", "emptyDir": {}}]}}
    item = failed("train", rayClusterSpec={"headGroupSpec": {"template": pod}, "workerGroupSpecs": [{"template": pod}]})
    del item["spec"]["clusterSelector"]
    cluster.add("rayjobs", item)
    metadata = {"name": before, "namespace": "ml", "labels": {"a": "b"}, "uid": "1"}
    old = {"metadata": metadata, "data": {"train.yaml": "name: a\n"}, "immutable": True}
    cluster.answers[f"GET /api/v1/namespaces/ml/configmaps/{before}"] = (200, old)
    call(capsys, "retry", "--yes")
    new = made(cluster)["train"]
    name = new["metadata"]["name"]
    groups = [new["spec"]["rayClusterSpec"]["headGroupSpec"], *new["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    assert [group["template"]["spec"]["volumes"][0]["configMap"]["name"] for group in groups] == [name, name]
    assert new["metadata"]["ownerReferences"] == []
    [recipe] = [body for _, body in cluster.applied if body["kind"] == "ConfigMap"]
    assert (recipe["metadata"]["name"], recipe["data"], recipe["immutable"]) == (name, old["data"], True)


# ---- with Kueue ----------------------------------------------------------------------------------

PODS = ("head", "gpu", "submitter")
TOLERATION = {"key": "team", "operator": "Exists"}


def pods(of_flavor: bool) -> list[Object]:
    """Pod templates of a head, a worker group and a submitter, without or with what Kueue writes for a flavor."""
    templates: list[Object] = []
    for name in PODS:
        template: Object = {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [], "tolerations": [TOLERATION]},
        }
        if of_flavor:
            template["metadata"]["labels"]["kueue.x-k8s.io/podset"] = name
            template["metadata"]["annotations"] = {"kueue.x-k8s.io/workload": "w"}
            template["spec"] |= {"nodeSelector": {"pool": "spot"}, "tolerations": [TOLERATION, {"key": "spot"}]}
        templates.append(template)
    templates[1]["spec"].setdefault("nodeSelector", {})["gpu"] = "a100"
    return templates


def admitted(cluster: KubernetesStub) -> Object:
    """A failed RayJob of a queue, which Kueue had admitted."""
    head, worker, submitter = pods(of_flavor=True)
    groups = {"headGroupSpec": {"template": head}, "workerGroupSpecs": [{"groupName": "gpu", "template": worker}]}
    item = failed("train", submissionMode="K8sJobMode", rayClusterSpec=groups, submitterPodTemplate=submitter)
    del item["spec"]["clusterSelector"]
    item["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "judges"
    cluster.add("rayjobs", item)
    return item


def workload(item: Object, templates: list[Object], at: str) -> Object:
    owner = {"kind": "RayJob", "name": item["metadata"]["name"], "uid": item["metadata"]["uid"]}
    metadata = {"name": f"rayjob-{at}", "namespace": "ml", "ownerReferences": [owner], "creationTimestamp": at}
    sets = [{"name": name, "template": template} for name, template in zip(PODS, templates, strict=False)]
    return {"metadata": metadata, "spec": {"podSets": sets}}


def templates_of(item: Object) -> list[Object]:
    cluster = item["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [*(group["template"] for group in groups), item["spec"]["submitterPodTemplate"]]


def test_a_new_rayjob_has_its_pods_as_they_were_before_kueue_chose_a_flavor(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    item = admitted(cluster)
    # An elastic RayJob has a Workload for each size; the later ones may hold what Kueue wrote for the first.
    for at, of_flavor in (("2026-01-01T02:00:00Z", True), ("2026-01-01T01:00:00Z", False)):
        cluster.add("workloads", workload(item, pods(of_flavor), at))
    _, out, _ = call(capsys, "retry", "--yes")
    assert "flavor" not in out
    expected = pods(of_flavor=False)
    for template in expected:
        template["metadata"].pop("annotations", None)
    assert templates_of(made(cluster)["train"]) == expected


@pytest.mark.parametrize("there", [False, True])
def test_where_kueue_s_record_is_gone_the_flavor_stays_and_that_is_said(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    item = admitted(cluster)
    if there:  # of another shape
        cluster.add("workloads", workload(item, pods(of_flavor=False)[:2], "2026-01-01T01:00:00Z"))
    code, out, _ = call(capsys, "retry", "--yes")
    assert code == 0
    assert "its Workload is gone or may not be read, so the new pods keep the node labels and tolerations" in out
    assert templates_of(made(cluster)["train"]) == pods(of_flavor=True)


def test_nothing_failed_is_nothing_to_do(cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add("rayjobs", job("train"))
    assert call(capsys, "retry", "--yes") == (0, "release judge has nothing to try again: train running\n", "")
    assert cluster.applied == []


def test_nobody_to_ask_starts_nothing(after_a_failure: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "retry")
    assert (code, err) == (2, "error: nobody to ask here, and nothing is started; give --yes\n")
    assert after_a_failure.applied == []


@pytest.mark.parametrize(
    ("key", "tool"),
    [("argocd.argoproj.io/tracking-id", "Argo CD"), ("kustomize.toolkit.fluxcd.io/name", "Flux")],
)
def test_where_git_rules_git_is_named_and_nothing_is_made(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str], key: str, tool: str
) -> None:
    cluster.add("rayjobs", failed(annotations={key: "x", "pairwise-rm.io/attempt": "4"}))
    assert refused(capsys, "retry", "--yes") == (
        2,
        f"release judge follows Git by {tool}, which would take back what is changed here: set the chart's value "
        '`attempt: "5"` there',
    )
    assert cluster.applied == []
    _, out, _ = call(capsys, "status")
    assert f'to try again, once the cause is mended, in Git, which {tool} follows:\n  attempt: "5"\n' in out


def test_a_rayjob_that_kuberay_refuses_is_not_made_again(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    item = failed()
    item["status"] |= {"jobDeploymentStatus": "ValidationFailed", "message": "The RayJob spec is invalid: no head"}
    cluster.add("rayjobs", item)
    assert refused(capsys, "retry", "--yes") == (
        2,
        "train: RayJob judge-train-0a1b2c3d was refused by KubeRay for good: no head; change the values",
    )


def test_a_rayjob_with_a_command_of_its_own_is_left_alone(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("rayjobs", failed(entrypoint="python mine.py"))
    code, line = refused(capsys, "retry", "--yes")
    assert code == 2
    assert line == "train: RayJob judge-train-0a1b2c3d has no command of the chart's; make a new one of its manifest"


def test_status_and_wait_name_the_command_when_a_stage_has_failed(
    after_a_failure: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [
        "pairwise-rm retry judge -n ml",
        "helm upgrade judge CHART -n ml --reuse-values --set attempt=2",
    ]
    again = ["to try again, once the cause is mended:", *(f"  {command}" for command in commands)]
    assert "\n".join(again) in call(capsys, "status")[1]
    assert json.loads(call(capsys, "status", "--json")[1])["try_again"] == commands
    code, out, err = call(capsys, "wait", "--for", "train")
    assert (code, err) == (1, "error: train failed: a worker is gone\n")
    assert out.splitlines()[-3:] == again


def test_status_names_no_command_while_nothing_has_failed(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "to try again" not in call(capsys, "status")[1]
