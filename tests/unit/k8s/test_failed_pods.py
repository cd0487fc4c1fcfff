"""Pods that fail or do not start are reported with the cluster's message and the value to change."""

from __future__ import annotations

import pytest

from pairwise_rm.k8s.pending import scheduler_message
from tests.unit.k8s_objects import (
    Object,
    container,
    ended,
    event,
    found,
    head,
    submitter,
    unschedulable,
    waiting,
    worker,
)


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
            "0/1 nodes are available: 1 node(s) didn't match Pod's node selector.",
            "head pod judge-head-x1 finds no node: 0/1 nodes are available: 1 node(s) didn't match Pod's node "
            "selector; set head.gpuNodes or head.affinity",
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
    (issue,) = found(unschedulable(pod, message))
    assert str(issue) == sentence
    assert not issue.terminal, "a node may come"


def test_a_node_that_is_being_brought_up_is_told() -> None:
    (issue,) = found(
        unschedulable(worker(), "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        events=[event("judge-a100-worker-x1", "TriggeredScaleUp")],
    )
    assert str(issue) == (
        "worker pod judge-a100-worker-x1 waits for a node that is being brought up: 0/1 nodes are available: "
        "1 Insufficient nvidia.com/gpu"
    )


def test_a_scheduling_gate_that_is_not_kueues_is_told() -> None:
    (issue,) = found(unschedulable(worker(), "Scheduling is blocked due to non-empty gates", "SchedulingGated"))
    assert str(issue) == (
        "worker pod judge-a100-worker-x1 is held back by a scheduling gate: Scheduling is blocked due to non-empty "
        "gates"
    )


@pytest.mark.parametrize("status", [{"phase": "Running"}, {"phase": "Pending", "scheduled": "True"}])
def test_a_pod_that_has_a_node_is_no_issue_of_the_scheduler(status: dict[str, str]) -> None:
    pod = unschedulable(worker(), "0/1 nodes are available: 1 Insufficient cpu.")
    pod["status"]["phase"] = status["phase"]
    pod["status"]["conditions"][0]["status"] = status.get("scheduled", "False")
    assert found(pod) == []


def test_the_schedulers_asides_are_left_out() -> None:
    said = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes …"
    assert scheduler_message(said) == "0/1 nodes are available: 1 Insufficient cpu"


@pytest.mark.parametrize(
    ("status", "sentence", "terminal"),
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
            'cannot start container ray-worker (CreateContainerConfigError): secret "wandb" not found; make secret '
            "wandb, or set secrets.<name>.existingSecret",
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
def test_a_broken_container_is_told(status: Object, sentence: str, terminal: bool) -> None:
    (issue,) = found(worker("Pending", containerStatuses=[status]))
    assert str(issue) == f"worker pod judge-a100-worker-x1 {sentence}"
    assert issue.terminal is terminal


@pytest.mark.parametrize("reason", ["InvalidImageName", "RegistryUnavailable", "ImageInspectError"])
def test_an_image_that_cannot_be_had_is_told_whatever_kubelet_calls_it(reason: str) -> None:
    (issue,) = found(worker("Pending", containerStatuses=[waiting(reason, "no")]))
    assert str(issue).startswith(f"worker pod judge-a100-worker-x1 cannot pull image repo/judge:1: no ({reason})")
    assert issue.terminal


@pytest.mark.parametrize("reason", ["CreateContainerError", "RunContainerError"])
def test_a_container_that_cannot_be_started_is_told_with_the_section_of_its_pod(reason: str) -> None:
    (issue,) = found(worker("Pending", containerStatuses=[waiting(reason, "no such device")]))
    assert str(issue) == (
        f"worker pod judge-a100-worker-x1 cannot start container ray-worker ({reason}): no such device; see pools.a100"
    )
    assert issue.terminal


def test_an_init_container_that_fails_is_told_too() -> None:
    broken = container("wait-gcs", {"waiting": {"reason": "CrashLoopBackOff"}}, last=ended("Error"))
    (issue,) = found(worker("Pending", initContainerStatuses=[broken]))
    assert "failed: container wait-gcs ended with exit code 1 (Error)" in str(issue)


def test_two_containers_that_lack_one_image_are_told_once() -> None:
    pod = head("Pending", containerStatuses=[waiting("ErrImagePull", name="a"), waiting("ImagePullBackOff", name="b")])
    (issue,) = found(pod)
    assert issue.terminal


def test_an_evicted_pod_names_the_request_to_raise() -> None:
    pod = worker("Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage. Using 12Gi. ")
    (issue,) = found(pod)
    assert str(issue) == (
        "worker pod judge-a100-worker-x1 was evicted: The node was low on resource: ephemeral-storage. Using 12Gi; "
        "raise pools.a100.resources.requests.ephemeral-storage"
    )


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ('configmap "judge-recipe" not found', "`helm upgrade` of the release makes it"),
        (
            "Multi-Attach error for volume",
            "set storage.<name>.accessMode to ReadWriteMany, since pods on several nodes share it",
        ),
        ('secret "wandb" not found', "make secret wandb, or set secrets.<name>.existingSecret"),
        ("timed out waiting for the condition", "see storage.data, storage.runs and storage.cache"),
    ],
)
def test_a_volume_that_cannot_be_mounted_is_told(message: str, value: str) -> None:
    for reason, kind in (("ContainerCreating", "FailedMount"), ("PodInitializing", "FailedAttachVolume")):
        pod = worker("Pending", containerStatuses=[waiting(reason)])
        (issue,) = found(pod, events=[event("judge-a100-worker-x1", kind, message)])
        assert str(issue) == f"worker pod judge-a100-worker-x1 cannot mount its volumes: {message}; {value}"
        assert not issue.terminal


def test_a_container_that_fails_is_told_whatever_its_volumes_did_before() -> None:
    crashing = container("ray-worker", {"waiting": {"reason": "CrashLoopBackOff"}}, last=ended("Error"))
    mount = event("judge-a100-worker-x1", "FailedMount", "timed out")
    (issue,) = found(worker(containerStatuses=[crashing]), events=[mount])
    assert "failed: container ray-worker ended with exit code 1 (Error)" in str(issue)


def test_a_pod_that_is_just_starting_is_no_issue() -> None:
    pod = worker("Pending", containerStatuses=[waiting("ContainerCreating")])
    assert found(pod) == found(pod, events=[event("judge-a100-worker-x1", "Pulling", type="Normal")]) == []


def test_a_pull_that_fails_without_a_reason_says_that_none_is_given() -> None:
    (issue,) = found(worker("Pending", containerStatuses=[waiting("ImagePullBackOff")]))
    assert "cannot pull image repo/judge:1: no reason is given (ImagePullBackOff); set" in str(issue)


def test_of_the_submitters_only_the_newest_counts() -> None:
    older = submitter(name="s1", phase="Pending", containerStatuses=[waiting("ImagePullBackOff")])
    newer = submitter(name="s2")
    newer["metadata"]["creationTimestamp"] = "2025-10-09T09:53:20Z"
    assert found(newer, older) == []


def test_a_submitter_that_failed_is_no_issue_since_its_job_tells() -> None:
    assert found(submitter(phase="Failed", containerStatuses=[container("ray-job-submitter", ended("Error"))])) == []


def test_a_submitter_that_does_not_even_start_is_told() -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    crashing = container("ray-job-submitter", state, last=ended("Error", 127), restartCount=1)
    (issue,) = found(submitter(containerStatuses=[crashing]))
    assert "failed: container ray-job-submitter ended with exit code 127 (Error) and was started 2 times" in str(issue)
