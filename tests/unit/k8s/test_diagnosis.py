"""Issues of a release other than its pods': claims, removed pods, KubeRay; and how issues are merged."""

from __future__ import annotations

import pytest

from pairwise_rm.k8s.diagnosis import issues
from pairwise_rm.k8s.issue import Issue, clipped, merged, shortened
from pairwise_rm.k8s.kuberay import is_1_6
from pairwise_rm.k8s.snapshot import Snapshot, newest_jobs
from tests.unit.k8s_objects import (
    NOW,
    Object,
    container,
    ended,
    event,
    found,
    head,
    job,
    ray_cluster,
    unschedulable,
    waiting,
    worker,
)


def claim(name: str = "judge-runs", phase: str = "Pending") -> Object:
    spec = {
        "storageClassName": "nfs",
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Ti"}},
    }
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": phase}}


def mounting(name: str, volume: str = "runs") -> Object:
    pod = head("Pending")
    pod["spec"]["volumes"] = [{"name": volume, "persistentVolumeClaim": {"claimName": name}}]
    return unschedulable(pod, "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")


def test_a_storage_class_that_is_not_there_is_told_in_place_of_the_pod_that_waits_for_it() -> None:
    refusal = event("judge-runs", "ProvisioningFailed", 'storageclass.storage.k8s.io "nfs" not found')
    (issue,) = found(mounting("judge-runs"), events=[refusal], claims={"judge-runs": claim()})
    assert str(issue) == (
        'claim judge-runs gets no volume: storageclass.storage.k8s.io "nfs" not found; set storage.runs.storageClass'
    )
    assert issue.terminal


def test_a_claim_that_no_volume_fits_is_told_with_what_it_asks_for() -> None:
    refusal = event("judge-runs", "ProvisioningFailed", "no capacity")
    (issue,) = found(mounting("judge-runs"), events=[refusal], claims={"judge-runs": claim()})
    assert str(issue) == (
        "claim judge-runs (1Ti, ReadWriteMany, storage class nfs) gets no volume: no capacity; "
        "set storage.runs.storageClass, .size, .accessMode or .existingClaim"
    )


def test_a_pod_that_waits_for_something_else_is_told_beside_the_claim_that_gets_no_volume() -> None:
    refusal = event("judge-runs", "ProvisioningFailed", "no capacity")
    busy = unschedulable(worker(), "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    issues = found(mounting("judge-runs"), busy, events=[refusal], claims={"judge-runs": claim()})
    assert sorted(issue.subject for issue in issues) == ["claim judge-runs", "worker pod judge-a100-worker-x1"]


@pytest.mark.parametrize("volume", ["data", "runs", "cache"])
def test_a_claim_is_told_with_the_store_that_it_is_for(volume: str) -> None:
    (issue,) = found(mounting("my-claim", volume), claims={})
    assert str(issue) == f"claim my-claim is not there; make it, or set storage.{volume}.existingClaim"


def test_a_claim_that_is_not_there_is_told() -> None:
    (issue,) = found(mounting("my-claim"), claims={})
    assert str(issue) == "claim my-claim is not there; make it, or set storage.runs.existingClaim"
    assert issue.terminal


def test_a_claim_that_extra_volumes_mount_is_told_without_a_store_that_it_is_not() -> None:
    (issue,) = found(mounting("my-claim", volume="mine"), claims={})
    assert str(issue).endswith("set storage.<name>.existingClaim")


def test_a_cluster_without_a_default_storage_class_is_told() -> None:
    refusal = event(
        "judge-runs",
        "FailedBinding",
        "no persistent volumes available for this claim and no storage class is set",
        type="Normal",
    )
    (issue,) = found(mounting("judge-runs"), events=[refusal], claims={"judge-runs": claim()})
    assert str(issue) == (
        "claim judge-runs gets no volume: no persistent volumes available for this claim and no storage class is set; "
        "set storage.runs.storageClass"
    )
    assert issue.terminal


def test_a_claim_that_waits_for_its_first_pod_is_no_issue() -> None:
    normal = event("judge-runs", "WaitForFirstConsumer", type="Normal")
    assert [str(issue) for issue in found(mounting("judge-runs"), events=[normal], claims={"judge-runs": claim()})] == [
        "head pod judge-head-x1 finds no node: 0/1 nodes are available: pod has unbound immediate "
        "PersistentVolumeClaims; see storage.data, storage.runs and storage.cache"
    ]


def test_a_claim_that_has_its_volume_is_no_issue_whatever_was_said_before() -> None:
    pod = mounting("judge-runs")
    pod["status"] = {"phase": "Running"}
    refusal = event("judge-runs", "ProvisioningFailed", "no capacity")
    assert found(pod, events=[refusal], claims={"judge-runs": claim(phase="Bound")}) == []


def test_a_claim_that_asks_for_nothing_in_particular_is_told_so() -> None:
    bare = {"metadata": {"name": "judge-runs"}, "spec": {"accessModes": ["RWO", "RWX"]}, "status": {"phase": "Pending"}}
    refusal = event("judge-runs", "ProvisioningFailed", "no capacity")
    (issue,) = found(mounting("judge-runs"), events=[refusal], claims={"judge-runs": bare})
    assert str(issue).startswith("claim judge-runs (?, RWO, RWX, storage class none) gets no volume: no capacity; ")
    assert not issue.terminal


def test_an_account_that_may_not_read_claims_misses_none() -> None:
    assert all("is not there" not in str(issue) for issue in found(mounting("my-claim"), claims=None))


DELETED = (
    "Deleted {} Pod ml/{}; Pod status: Running; Pod restart policy: Never; Ray container terminated status: "
    "&ContainerStateTerminated{{ExitCode:{},Signal:0,Reason:{},Message:,StartedAt:2025-10-09 08:00:00 +0000 UTC,}}"
)


@pytest.mark.parametrize(
    ("kind", "pod", "value"),
    [
        ("worker", "judge-a100-80-worker-z", "pools.a100-80"),
        ("worker", f"judge-{'a' * 44}-worker-z", "pools.<name>"),
        ("head", "judge-head-z", "head"),
    ],
)
def test_a_pod_that_ran_out_of_memory_and_is_gone_is_known_by_its_event(kind: str, pod: str, value: str) -> None:
    gone = event(
        "judge", "DeletedWorkerPod", DELETED.format(kind, pod, 137, "OOMKilled"), kind="RayCluster", seconds_ago=0
    )
    (issue,) = found(events=[gone])
    assert str(issue) == (
        f"pod {pod} ran out of memory: container of Ray was OOMKilled; raise {value}.resources.limits.memory"
    )


def test_a_head_that_fails_again_and_again_is_a_terminal_issue_and_says_why() -> None:
    gone = event(
        "judge", "DeletedHeadPod", DELETED.format("head", "judge-head-z", 1, "Error"), "RayCluster", 0, count=7
    )
    why = event("judge-head-z", "Failed", 'Error: exec: "/bin/bash": no such file', seconds_ago=0)
    (issue,) = found(events=[why, gone])
    assert str(issue) == (
        'pod judge-head-z ended with exit code 1 and was replaced (7 times within the hour): Error: exec: "/bin/bash": '
        "no such file"
    )
    assert issue.terminal


def test_an_eviction_is_told_once_though_kuberay_removes_the_pod_too() -> None:
    taken = event("judge-a100-worker-z", "Evicted", "The node was low on resource: memory.", seconds_ago=0)
    gone = event(
        "judge", "DeletedWorkerPod", DELETED.format("worker", "judge-a100-worker-z", 137, "Error"), "RayCluster", 0
    )
    (issue,) = found(events=[taken, gone])
    assert "was evicted: The node was low on resource: memory; raise pools.a100.resources.requests.memory" in str(issue)


def test_a_pod_that_is_evicted_and_still_there_is_told_once() -> None:
    message = "The node was low on resource: memory."
    pod = worker("Failed", reason="Evicted", message=message)
    (issue,) = found(pod, events=[event("judge-a100-worker-x1", "Evicted", message, seconds_ago=0)])
    assert issue.subject == "worker pod judge-a100-worker-x1"


def test_a_pod_that_was_preempted_is_told() -> None:
    (issue,) = found(events=[event("judge-a100-worker-z", "Preempted", "by pod x on node y", seconds_ago=0)])
    assert str(issue) == "pod judge-a100-worker-z was preempted: by pod x on node y; see priorityClass"
    assert not issue.terminal


@pytest.mark.parametrize(("name", "kind"), [("other-a100-worker-z", "Pod"), ("judge-a100-worker-z", "Workload")])
def test_what_was_taken_from_others_is_not_told(name: str, kind: str) -> None:
    assert found(events=[event(name, "Preempted", "by x", kind, seconds_ago=0)]) == []


@pytest.mark.parametrize(("name", "kind"), [("other", "RayCluster"), ("judge", "RayService")])
def test_what_others_lost_is_not_told(name: str, kind: str) -> None:
    gone = event(name, "DeletedWorkerPod", DELETED.format("worker", "judge-a-worker-z", 1, "Error"), kind, 0)
    assert found(events=[gone]) == []


def test_the_pool_of_a_pod_whose_name_begins_otherwise_is_not_guessed() -> None:
    gone = event(
        "judge", "DeletedWorkerPod", DELETED.format("worker", "x-a100-worker-z", 137, "OOMKilled"), "RayCluster", 0
    )
    (issue,) = found(events=[gone])
    assert str(issue).endswith("raise pools.<name>.resources.limits.memory")


def test_why_a_pod_was_replaced_is_its_own_message_then_its_last_warning_then_its_reason() -> None:
    bare = DELETED.format("worker", "judge-a-worker-z", 1, "Error")
    failed = "Deleted worker Pod ml/judge-a-worker-z; Pod status: Failed; Ray container terminated status: <nil>"
    warning = event("judge-a-worker-z", "Failed", "its warning", seconds_ago=5)
    normal = event("judge-a-worker-z", "Killing", "Stopping container", seconds_ago=0, type="Normal")

    def told(message: str, *events: Object) -> str:
        (issue,) = found(events=[event("judge", "DeletedWorkerPod", message, "RayCluster", 0), *events])
        return str(issue).removeprefix("pod judge-a-worker-z ")

    why = "ended with exit code 1 and was replaced: "
    assert told(bare.replace("Message:", "Message:its own"), warning, normal) == f"{why}its own"
    assert told(bare, warning, normal) == f"{why}its warning"
    assert told(bare) == f"{why}Error"
    assert told(failed) == "failed and was replaced: no reason is given"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Deleted worker Pod ml/judge-a-worker-z; Pod status: Failed; Ray container terminated status: <nil>", True),
        ("Deleted worker Pod ml/judge-a-worker-z; Pod status: Running; Ray container terminated status: <nil>", False),
        ("Deleted pod ml/judge-a-worker-z", False),
    ],
)
def test_a_pod_that_is_taken_away_when_idle_is_no_loss(message: str, told: bool) -> None:
    assert bool(found(events=[event("judge", "DeletedWorkerPod", message, "RayCluster", 0)])) is told


def test_what_was_lost_before_this_job_is_not_told() -> None:
    old = event("judge", "DeletedHeadPod", DELETED.format("head", "judge-head-z", 1, "Error"), "RayCluster", 600)
    assert found(events=[old]) == []


def test_a_pod_that_pod_security_refuses_is_told_by_its_raycluster() -> None:
    refused = ray_cluster(
        conditions=[
            {
                "type": "ReplicaFailure",
                "status": "True",
                "message": 'pods "x" is forbidden: violates PodSecurity "restricted"',
            }
        ]
    )
    (issue,) = found(cluster=refused)
    assert str(issue).startswith("RayCluster judge gets no pod: ")
    assert issue.terminal


def test_a_raycluster_that_gets_no_head_tells_its_last_warning() -> None:
    (issue,) = found(events=[event("judge", "AccountMissing", "ServiceAccount judge-head is not found", "RayCluster")])
    assert str(issue) == (
        "RayCluster judge gets no pod: ServiceAccount judge-head is not found; set serviceAccount.create to true"
    )
    assert issue.terminal


@pytest.mark.parametrize(
    ("message", "section"),
    [
        ("head Pod ml/judge-head-x, exceeded", "head"),
        ("worker pods of judge are refused:", "head"),
        ('pods "judge-a100-worker-x" is forbidden:', "pools.a100"),
    ],
)
def test_a_refusal_of_a_raycluster_names_the_section_of_the_pod_that_it_is_about(message: str, section: str) -> None:
    said = f"{message} failed quota: compute: must specify limits.cpu for: x"
    refusal = ray_cluster(conditions=[{"type": "ReplicaFailure", "status": "True", "message": said}])
    (issue,) = found(cluster=refusal)
    assert str(issue) == f"RayCluster judge gets no pod: {said}; set {section}.resources with these"


def test_a_refusal_that_is_over_is_not_told() -> None:
    over = ray_cluster(conditions=[{"type": "ReplicaFailure", "status": "False", "message": "exceeded quota: gpus"}])
    assert found(cluster=over) == []


WARNING = event("judge", "AccountMissing", "ServiceAccount judge-head is not found", "RayCluster")


@pytest.mark.parametrize(
    ("pods", "rayjob"),
    [([head()], None), ([], job("train", "Failed", "FAILED"))],
    ids=["a cluster that has pods", "a stage that has ended"],
)
def test_a_warning_of_a_raycluster_is_told_only_where_a_pod_is_waited_for(
    pods: list[Object], rayjob: Object | None
) -> None:
    assert found(*pods, events=[WARNING], rayjob=rayjob) == []


def test_of_a_raycluster_without_pods_only_the_latest_event_counts() -> None:
    later = event("judge", "CreatedHeadPod", "Created head Pod", "RayCluster", 5, type="Normal")
    assert found(events=[WARNING, later]) == []


def test_a_quota_may_become_free() -> None:
    full = ray_cluster(conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}])
    (issue,) = found(cluster=full)
    assert not issue.terminal


def test_a_rayjob_that_no_operator_takes_up_is_told_after_a_minute() -> None:
    untouched = job(deployment="", ray="")
    assert found(rayjob=untouched) == []
    untouched["metadata"]["creationTimestamp"] = "2025-10-09T08:51:20Z"
    (issue,) = found(rayjob=untouched)
    assert str(issue) == (
        "RayJob judge-train-0a1b2c3d has not been taken up for 2 min 00 s: see whether KubeRay's operator runs, and "
        "whether it watches namespace ml"
    )
    assert not issue.terminal
    untouched["spec"]["suspend"] = True
    assert found(rayjob=untouched) == [], "one that is suspended is not to be taken up"


def test_a_raycluster_that_is_not_there_is_told() -> None:
    missing = event("judge-train-0a1b2c3d", "RayClusterNotFound", kind="RayJob")
    (issue,) = found(events=[missing])
    assert str(issue) == "RayJob judge-train-0a1b2c3d waits for RayCluster judge, which is not there"
    there = event("judge-train-0a1b2c3d", "CreatedRayJobSubmitter", kind="RayJob", seconds_ago=5, type="Normal")
    assert found(events=[missing, there]) == [], "it was made meanwhile"


def test_a_stage_that_has_succeeded_has_no_issue() -> None:
    assert (
        found(
            worker(containerStatuses=[container("x", ended("OOMKilled"))]),
            rayjob=job(deployment="Complete", ray="SUCCEEDED"),
        )
        == []
    )


def test_an_issue_that_several_stages_share_is_told_once() -> None:
    jobs = newest_jobs([job("train", "Initializing", ""), job("export", "Initializing", "")])
    pod = worker("Pending", containerStatuses=[waiting("ImagePullBackOff")])
    assert len(issues(Snapshot("judge", "ml", jobs, pods=[pod], now=NOW))) == 1


def test_the_same_issue_of_several_pods_is_one_and_terminal_ones_come_first() -> None:
    alike = [
        Issue("pod a", "waits"),
        Issue("pod b", "waits"),
        Issue("pod a", "waits"),
        Issue("pod c", "ends", True),
    ]
    assert [str(issue) for issue in merged(alike)] == ["pod c ends", "pod a (and 1 more like it) waits"]


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    text = clipped("begin\n" + "x" * 400 + " cause")
    assert len(text) == 240
    assert text == "begin " + "x" * 74 + " … " + "x" * 151 + " cause"


def test_a_message_that_fits_is_one_line_and_whole() -> None:
    assert clipped("  the\n cause ") == "the cause"
    assert clipped("x" * 240) == shortened("x" * 240, 240) == "x" * 240


def test_of_a_long_line_the_beginning_is_shown_where_there_is_room_for_no_more() -> None:
    assert shortened("one two\nthree", 9) == "one two…"
    assert shortened("x" * 64) == "x" * 64
    assert shortened("x" * 65) == "x" * 63 + "…"


@pytest.mark.parametrize(("fields", "yes"), [({"preRunningDeadlineSeconds": {}}, True), ({"suspend": {}}, False)])
def test_kuberay_1_6_is_known_by_a_field_of_its_rayjob(fields: Object, yes: bool) -> None:
    schema = {"openAPIV3Schema": {"properties": {"spec": {"properties": fields}}}}
    assert is_1_6({"spec": {"versions": [{"name": "v1", "schema": schema}]}}) is yes
