"""What a rendering without the cluster cannot check is told when the cluster refuses it, with the value to set."""

from __future__ import annotations

import pytest

from tests.unit.k8s_objects import Object, container, ended, event, found, head, job, ray_cluster, waiting, worker


def refused(message: str) -> Object:
    reason = "FailedCreateWorkerPod" if "worker" in message else "FailedCreateHeadPod"
    failure = {"type": "ReplicaFailure", "status": "True", "reason": reason, "message": f"{reason}\n{message}"}
    return ray_cluster(conditions=[failure])


@pytest.mark.parametrize(
    ("message", "remedy", "terminal"),
    [
        (
            'pods "judge-head-x" is forbidden: no PriorityClass with name high was found',
            "make it, or set priorityClass.name or priorityClass.create",
            True,
        ),
        (
            'pods "judge-a100-worker-x" is forbidden: no PriorityClass with name high was found',
            "make it, or set pools.a100.priorityClassName, priorityClass.name or priorityClass.create",
            True,
        ),
        (
            'pods "judge-a100-worker-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=8, '
            "used: requests.nvidia.com/gpu=8, limited: requests.nvidia.com/gpu=8",
            "lower pools.a100.gpus, or have ResourceQuota gpus raised",
            False,
        ),
        (
            'pods "judge-a100-worker-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=8, '
            "used: requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=4",
            "lower pools.a100.gpus, or have ResourceQuota gpus raised",
            True,
        ),
        (
            'pods "judge-head-x" is forbidden: exceeded quota: compute, requested: limits.memory=16Gi, used: '
            "limits.memory=8Gi, limited: limits.memory=20Gi",
            "lower head.resources, or have ResourceQuota compute raised",
            False,
        ),
        (
            'pods "judge-a100-worker-x" is forbidden: exceeded quota: compute, requested: limits.memory=16Gi, used: '
            "limits.memory=8Gi, limited: limits.memory=20Gi",
            "lower pools.a100.resources, or have ResourceQuota compute raised",
            False,
        ),
        (
            'pods "judge-head-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: '
            "requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=4",
            "have ResourceQuota gpus raised",
            False,
        ),
        (
            'pods "judge-head-x" is forbidden: failed quota: compute: must specify limits.cpu for: ray-head',
            "set head.resources with these",
            True,
        ),
        (
            'pods "judge-head-x" is forbidden: maximum memory usage per Container is 4Gi, but limit is 16Gi',
            "set head.resources to what the namespace's LimitRange allows",
            True,
        ),
        (
            'pods "judge-head-x" is forbidden: error looking up service account ml/judge-head: serviceaccount '
            '"judge-head" not found',
            "set serviceAccount.create to true",
            True,
        ),
    ],
)
def test_a_pod_that_is_refused_is_told_with_the_value_to_set(message: str, remedy: str, terminal: bool) -> None:
    (issue,) = found(cluster=refused(message))
    words = str(issue)
    assert words.startswith("RayCluster judge gets no pod: FailedCreate")
    assert words.endswith(f"; {remedy}")
    assert message[-20:] in words
    assert issue.terminal is terminal


@pytest.mark.parametrize(
    ("message", "terminal"),
    [
        ("admission webhook denied the request: must specify a team", True),
        ("failed quota: compute: status unknown for quota", False),
    ],
)
def test_a_refusal_of_which_no_value_is_known_is_told_in_its_own_words(message: str, terminal: bool) -> None:
    said = f'pods "judge-head-x" is forbidden: {message}'
    (issue,) = found(cluster=refused(said))
    assert str(issue) == f"RayCluster judge gets no pod: FailedCreateHeadPod {said}"
    assert issue.terminal is terminal


def test_a_quota_that_refuses_the_submitter_is_told() -> None:
    message = (
        'Error creating: pods "judge-train-0a1b2c3d-x" is forbidden: exceeded quota: compute, requested: pods=1, used: '
        "pods=4, limited: pods=4"
    )
    (issue,) = found(events=[event("judge-train-0a1b2c3d", "FailedCreate", message, kind="Job")])
    assert str(issue) == (
        f"submitter pod of judge-train-0a1b2c3d gets no pod: {message}; have ResourceQuota compute raised"
    )


@pytest.mark.parametrize("resource", ["limits.cpu", "requests.memory", "requests.ephemeral-storage"])
def test_a_quota_of_sizes_that_refuses_the_submitter_is_told_with_what_to_lower(resource: str) -> None:
    message = f'pods "x" is forbidden: exceeded quota: compute, requested: {resource}=1, used: {resource}=4, limited: x'
    (issue,) = found(events=[event("judge-train-0a1b2c3d", "FailedCreate", message, kind="Job")])
    assert str(issue).endswith("; lower submission.resources, or have ResourceQuota compute raised")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("FailedToCreateRayCluster", "RayJob judge-train-0a1b2c3d gets no RayCluster: Failed to create"),
        ("FailedToCreateRayJobSubmitter", "RayJob judge-train-0a1b2c3d gets no submitter: Failed to create"),
    ],
)
def test_what_kuberay_may_not_make_is_told(reason: str, words: str) -> None:
    message = "Failed to create x ml/judge-1: admission webhook denied the request: must specify; failed quota: a"
    (issue,) = found(events=[event("judge-train-0a1b2c3d", reason, message, kind="RayJob")])
    assert str(issue).startswith(words)
    assert str(issue).endswith("; set submission.resources with these")
    assert issue.terminal


def taking(variable: str, secret: str) -> Object:
    pod = worker("Pending")
    taken = {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": variable}}}
    pod["spec"]["containers"][0]["env"] = [{"name": "HOME", "value": "/home/ray"}, taken]
    return pod


@pytest.mark.parametrize(
    ("variable", "message", "remedy"),
    [
        ("WANDB_API_KEY", 'secret "mine" not found', "make secret mine, or set secrets.wandb.existingSecret"),
        ("HF_TOKEN", 'secret "mine" not found', "make secret mine, or set secrets.huggingface.existingSecret"),
        ("RAY_AUTH_TOKEN", 'secret "mine" not found', "make secret mine, or set auth.existingSecret"),
        ("MY_TOKEN", 'secret "mine" not found', "make secret mine, or set extraEnv"),
        (
            "HF_TOKEN",
            "couldn't find key HF_TOKEN in Secret ml/mine",
            "give secret mine that key, or set secrets.huggingface.key",
        ),
        ("RAY_AUTH_TOKEN", "couldn't find key auth_token in Secret ml/mine", "give secret mine that key"),
    ],
)
def test_a_secret_that_is_not_there_is_told_with_the_value_that_names_it(
    variable: str, message: str, remedy: str
) -> None:
    pod = taking(variable, "mine")
    pod["status"]["containerStatuses"] = [waiting("CreateContainerConfigError", message)]
    (issue,) = found(pod)
    assert str(issue) == (
        "worker pod judge-a100-worker-x1 cannot start container ray-worker (CreateContainerConfigError): "
        f"{message}; {remedy}"
    )
    assert issue.terminal


def test_a_secret_for_uploads_that_is_not_there_is_told() -> None:
    pod = head(
        "Pending", containerStatuses=[waiting("CreateContainerConfigError", 'secret "s3" not found', "ray-head")]
    )
    pod["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": "s3"}}]
    (issue,) = found(pod)
    assert str(issue).endswith("make secret s3, or set secrets.upload.existingSecret")


def test_a_secret_for_pulling_that_is_not_there_is_told() -> None:
    pod = worker("Pending", containerStatuses=[waiting("ImagePullBackOff", "401 Unauthorized")])
    absent = event(
        "judge-a100-worker-x1",
        "FailedToRetrieveImagePullSecret",
        "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed.",
    )
    (issue,) = found(pod, events=[absent])
    assert str(issue) == (
        "worker pod judge-a100-worker-x1 cannot pull image repo/judge:1: 401 Unauthorized (ImagePullBackOff), and has "
        "no secret regcred for it; make it, or set image.pullSecrets"
    )


def test_an_autoscaler_that_exited_is_named_though_the_head_runs() -> None:
    pod = head(containerStatuses=[container("ray-head", {"running": {}}), container("autoscaler", ended("Error", 1))])
    (issue,) = found(pod, rayjob=job())
    assert str(issue) == (
        "head pod judge-head-x1 failed: container autoscaler ended with exit code 1 (Error) and was started 1 time; "
        "see `kubectl logs -n ml judge-head-x1 -c autoscaler`"
    )
