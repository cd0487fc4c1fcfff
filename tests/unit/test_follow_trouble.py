"""What keeps a release is told in the cluster's own words, with the value to change."""

from __future__ import annotations

from typing import Any

import pytest
from follow_objects import NOW, container, event, head, job, ray_cluster, submitter, worker

from pairwise_rm.follow.crds import is_1_6
from pairwise_rm.follow.diagnosis import troubles, troubles_of
from pairwise_rm.follow.scheduling import scheduler_message
from pairwise_rm.follow.snapshot import Snapshot, newest_jobs
from pairwise_rm.follow.trouble import Trouble, clipped, merged

Object = dict[str, Any]


def found(
    *pods: Object,
    events: list[Object] | None = None,
    rayjob: Object | None = None,
    claims: dict[str, Object] | None = None,
    cluster: Object | None = None,
) -> list[Trouble]:
    snapshot = Snapshot(
        "judge",
        "ml",
        newest_jobs([rayjob or job(deployment="Initializing", ray="")]),
        clusters={"judge": cluster or ray_cluster()},
        pods=list(pods),
        events=events or [],
        claims=claims,
        now=NOW,
    )
    return troubles_of(snapshot, "train")


def unschedulable(pod: Object, message: str, reason: str = "Unschedulable") -> Object:
    pod["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}],
    }
    return pod


def waiting(reason: str, message: str = "", name: str = "ray-worker") -> Object:
    return container(name, {"waiting": {"reason": reason, "message": message}})


def ended(reason: str, code: int = 1, message: str = "") -> Object:
    return {"terminated": {"reason": reason, "exitCode": code, "message": message}}


@pytest.mark.parametrize(
    ("pod", "message", "sentence"),
    [
        (
            worker(gpus=8),
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No …",
            "worker pod judge-a100-worker-x1 waits for 8 nvidia.com/gpu: 0/3 nodes are available: 3 Insufficient "
            "nvidia.com/gpu; set pools.a100.gpus to what one node has free, or add nodes",
        ),
        (
            worker(),
            "0/3 nodes are available: 1 Insufficient memory, 2 Insufficient cpu.",
            "worker pod judge-a100-worker-x1 finds no node: 0/3 nodes are available: 1 Insufficient memory, "
            "2 Insufficient cpu; lower pools.a100.resources, or add nodes",
        ),
        (
            worker(),
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: …",
            "worker pod judge-a100-worker-x1 finds no node: 0/1 nodes are available: 1 node(s) didn't match Pod's node "
            "affinity/selector; set pools.a100.platform or pools.a100.gpuProduct or pools.a100.nodeSelector",
        ),
        (
            head(),
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            "head pod judge-head-x1 finds no node: 0/1 nodes are available: 1 node(s) didn't match Pod's node "
            "affinity/selector; set head.gpuNodes or head.affinity",
        ),
        (
            worker(),
            "0/1 nodes are available: 1 node(s) had untolerated taint(s).",
            "worker pod judge-a100-worker-x1 finds no node: 0/1 nodes are available: 1 node(s) had untolerated "
            "taint(s); set pools.a100.tolerations",
        ),
        (
            submitter(),
            "0/1 nodes are available: 1 Too many pods.",
            "submitter pod judge-train-0a1b2c3d-s1 finds no node: 0/1 nodes are available: 1 Too many pods; "
            "see submission",
        ),
    ],
)
def test_a_pod_without_a_node_is_told_with_the_schedulers_words(pod: Object, message: str, sentence: str) -> None:
    (trouble,) = found(unschedulable(pod, message))
    assert str(trouble) == sentence
    assert not trouble.hopeless, "a node may come"


def test_a_node_that_is_being_brought_up_is_told() -> None:
    (trouble,) = found(
        unschedulable(worker(), "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        events=[event("judge-a100-worker-x1", "TriggeredScaleUp")],
    )
    assert "waits for a node that is being brought up" in str(trouble)


def test_the_schedulers_asides_are_left_out() -> None:
    said = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes …"
    assert scheduler_message(said) == "0/1 nodes are available: 1 Insufficient cpu"


@pytest.mark.parametrize(
    ("status", "sentence", "hopeless"),
    [
        (
            waiting(
                "ImagePullBackOff", 'Back-off pulling image "repo/judge:1": ErrImagePull: failed to resolve "x": y'
            ),
            "cannot pull image repo/judge:1: y (ImagePullBackOff); set image.repository and image.tag, or "
            "image.pullSecrets for a private registry",
            True,
        ),
        (
            waiting("ErrImagePull", 'failed to pull "repo/judge:1": not found'),
            "cannot pull image repo/judge:1: not found (ErrImagePull); set image.repository and image.tag, or "
            "image.pullSecrets for a private registry",
            False,
        ),
        (
            waiting("ErrImageNeverPull"),
            "needs image repo/judge:1, which is not on its node, and may not pull it; set image.pullPolicy to "
            "IfNotPresent, or load the image",
            True,
        ),
        (
            waiting("CreateContainerConfigError", 'secret "wandb" not found'),
            'cannot start container ray-worker (CreateContainerConfigError): secret "wandb" not found; see secrets',
            True,
        ),
        (
            container("ray-worker", ended("OOMKilled", 137)),
            "ran out of memory: container ray-worker was OOMKilled at its limit of 64Gi; raise "
            "pools.a100.resources.limits.memory",
            False,
        ),
        (
            container("ray-worker", {"running": {}}, last=ended("OOMKilled", 137), restartCount=1),
            "ran out of memory: container ray-worker was OOMKilled at its limit of 64Gi; raise "
            "pools.a100.resources.limits.memory",
            False,
        ),
        (
            container("ray-worker", {"waiting": {"reason": "CrashLoopBackOff"}}, last=ended("Error"), restartCount=5),
            "failed: container ray-worker ended with exit code 1 (Error) and was started 6 times; see "
            "`kubectl logs -n ml judge-a100-worker-x1 -c ray-worker --previous`",
            True,
        ),
        (
            container("ray-worker", ended("Error", 2, "no such option")),
            "failed: container ray-worker ended with exit code 2 (no such option) and was started 1 time; see "
            "`kubectl logs -n ml judge-a100-worker-x1 -c ray-worker`",
            False,
        ),
    ],
)
def test_a_broken_container_is_told(status: Object, sentence: str, hopeless: bool) -> None:
    (trouble,) = found(worker("Pending", containerStatuses=[status]))
    assert str(trouble) == f"worker pod judge-a100-worker-x1 {sentence}"
    assert trouble.hopeless is hopeless


def test_two_containers_that_lack_one_image_are_told_once() -> None:
    pod = head("Pending", containerStatuses=[waiting("ErrImagePull", name="a"), waiting("ImagePullBackOff", name="b")])
    (trouble,) = found(pod)
    assert trouble.hopeless


def test_an_evicted_pod_names_the_request_to_raise() -> None:
    pod = worker("Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage. Using 12Gi. ")
    (trouble,) = found(pod)
    assert str(trouble) == (
        "worker pod judge-a100-worker-x1 was evicted: The node was low on resource: ephemeral-storage. Using 12Gi; "
        "raise pools.a100.resources.requests.ephemeral-storage"
    )


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ('configmap "judge-recipe" not found', "`helm upgrade` of the release makes it"),
        ("Multi-Attach error for volume", "set storage.<name>.accessMode to ReadWriteMany"),
        ("timed out waiting for the condition", "see storage.data, storage.runs and storage.cache"),
    ],
)
def test_a_volume_that_cannot_be_mounted_is_told(message: str, value: str) -> None:
    pod = worker("Pending", containerStatuses=[waiting("ContainerCreating")])
    (trouble,) = found(pod, events=[event("judge-a100-worker-x1", "FailedMount", message)])
    assert message in str(trouble)
    assert value in str(trouble)


def test_a_pod_that_is_just_starting_is_no_trouble() -> None:
    assert found(worker("Pending", containerStatuses=[waiting("ContainerCreating")])) == []


def test_a_submitter_that_failed_is_no_trouble_since_its_job_tells() -> None:
    assert found(submitter(phase="Failed", containerStatuses=[container("ray-job-submitter", ended("Error"))])) == []


def claim(name: str = "judge-runs", phase: str = "Pending") -> Object:
    spec = {
        "storageClassName": "nfs",
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Ti"}},
    }
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": phase}}


def mounting(name: str) -> Object:
    pod = head("Pending")
    pod["spec"]["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": name}}]
    return unschedulable(pod, "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")


def test_a_storage_class_that_is_not_there_is_told_in_place_of_the_pod_that_waits_for_it() -> None:
    refusal = event("judge-runs", "ProvisioningFailed", 'storageclass.storage.k8s.io "nfs" not found')
    (trouble,) = found(mounting("judge-runs"), events=[refusal], claims={"judge-runs": claim()})
    assert str(trouble) == (
        'claim judge-runs gets no volume: storageclass.storage.k8s.io "nfs" not found; set storage.runs.storageClass'
    )
    assert trouble.hopeless


def test_a_claim_that_no_volume_fits_is_told_with_what_it_asks_for() -> None:
    refusal = event("judge-runs", "ProvisioningFailed", "no capacity")
    (trouble,) = found(mounting("judge-runs"), events=[refusal], claims={"judge-runs": claim()})
    assert str(trouble) == (
        "claim judge-runs (1Ti, ReadWriteMany, storage class nfs) gets no volume: no capacity; "
        "set storage.runs.storageClass, .size, .accessMode or .existingClaim"
    )


def test_a_claim_that_is_not_there_is_told() -> None:
    (trouble,) = found(mounting("my-claim"), claims={})
    assert str(trouble) == "claim my-claim is not there; set storage.<name>.existingClaim"


def test_a_claim_that_waits_for_its_first_pod_is_no_trouble() -> None:
    normal = event("judge-runs", "WaitForFirstConsumer", type="Normal")
    assert [
        str(trouble) for trouble in found(mounting("judge-runs"), events=[normal], claims={"judge-runs": claim()})
    ] == [
        "head pod judge-head-x1 finds no node: 0/1 nodes are available: pod has unbound immediate "
        "PersistentVolumeClaims; see storage.data, storage.runs and storage.cache"
    ]


def test_an_account_that_may_not_read_claims_misses_none() -> None:
    assert all("is not there" not in str(trouble) for trouble in found(mounting("my-claim"), claims=None))


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
    (trouble,) = found(events=[gone])
    assert str(trouble) == (
        f"pod {pod} ran out of memory: container of Ray was OOMKilled; raise {value}.resources.limits.memory"
    )


def test_a_head_that_fails_again_and_again_is_hopeless_and_says_why() -> None:
    gone = event(
        "judge", "DeletedHeadPod", DELETED.format("head", "judge-head-z", 1, "Error"), "RayCluster", 0, count=7
    )
    why = event("judge-head-z", "Failed", 'Error: exec: "/bin/bash": no such file', seconds_ago=0)
    (trouble,) = found(events=[why, gone])
    assert str(trouble) == (
        'pod judge-head-z ended with exit code 1 and was replaced (7 times within the hour): Error: exec: "/bin/bash": '
        "no such file"
    )
    assert trouble.hopeless


def test_an_eviction_is_told_once_though_kuberay_removes_the_pod_too() -> None:
    taken = event("judge-a100-worker-z", "Evicted", "The node was low on resource: memory.", seconds_ago=0)
    gone = event(
        "judge", "DeletedWorkerPod", DELETED.format("worker", "judge-a100-worker-z", 137, "Error"), "RayCluster", 0
    )
    (trouble,) = found(events=[taken, gone])
    assert "was evicted: The node was low on resource: memory; raise pools.a100.resources.requests.memory" in str(
        trouble
    )


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
    (trouble,) = found(cluster=refused)
    assert str(trouble).startswith("RayCluster judge gets no pod: ")
    assert trouble.hopeless


def test_a_raycluster_that_gets_no_head_tells_its_last_warning() -> None:
    (trouble,) = found(
        events=[event("judge", "AccountMissing", "ServiceAccount judge-head is not found", "RayCluster")]
    )
    assert str(trouble) == "RayCluster judge gets no pod: ServiceAccount judge-head is not found"
    assert trouble.hopeless


def test_a_quota_may_become_free() -> None:
    full = ray_cluster(conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}])
    (trouble,) = found(cluster=full)
    assert not trouble.hopeless


def test_a_rayjob_that_no_operator_takes_up_is_told_after_a_minute() -> None:
    untouched = job(deployment="", ray="")
    assert found(rayjob=untouched) == []
    untouched["metadata"]["creationTimestamp"] = "2025-10-09T08:51:20Z"
    (trouble,) = found(rayjob=untouched)
    assert "has not been taken up for 2 min 00 s: see whether KubeRay's operator runs" in str(trouble)


def test_a_raycluster_that_is_not_there_is_told() -> None:
    missing = event("judge-train-0a1b2c3d", "RayClusterNotFound", kind="RayJob")
    (trouble,) = found(events=[missing])
    assert str(trouble) == "RayJob judge-train-0a1b2c3d waits for RayCluster judge, which is not there"


def test_a_stage_that_has_succeeded_has_no_trouble() -> None:
    assert (
        found(
            worker(containerStatuses=[container("x", ended("OOMKilled"))]),
            rayjob=job(deployment="Complete", ray="SUCCEEDED"),
        )
        == []
    )


def test_a_trouble_that_several_stages_share_is_told_once() -> None:
    jobs = newest_jobs([job("train", "Initializing", ""), job("export", "Initializing", "")])
    pod = worker("Pending", containerStatuses=[waiting("ImagePullBackOff")])
    assert len(troubles(Snapshot("judge", "ml", jobs, pods=[pod], now=NOW))) == 1


def test_the_same_trouble_of_several_pods_is_one_and_hopeless_ones_come_first() -> None:
    alike = [
        Trouble("pod a", "waits"),
        Trouble("pod b", "waits"),
        Trouble("pod a", "waits"),
        Trouble("pod c", "ends", True),
    ]
    assert [str(trouble) for trouble in merged(alike)] == ["pod c ends", "pod a (and 1 more like it) waits"]


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    text = clipped("begin " + "x " * 400 + "cause")
    assert len(text) <= 240
    assert text.startswith("begin")
    assert text.endswith("cause")


@pytest.mark.parametrize(("fields", "yes"), [({"preRunningDeadlineSeconds": {}}, True), ({"suspend": {}}, False)])
def test_kuberay_1_6_is_known_by_a_field_of_its_rayjob(fields: Object, yes: bool) -> None:
    schema = {"openAPIV3Schema": {"properties": {"spec": {"properties": fields}}}}
    assert is_1_6({"spec": {"versions": [{"name": "v1", "schema": schema}]}}) is yes
