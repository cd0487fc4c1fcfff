"""What is read from the API's objects: labels, times, conditions; of a pod its role, its chart value, and its GPUs."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""As the API gives it."""

INSTANCE = "app.kubernetes.io/instance"
STAGE = "pairwise-rm.io/stage"
RUN_FOLDER = "pairwise-rm.io/run-folder"
RECIPE = "pairwise-rm.io/recipe"
CONTENT = "pairwise-rm.io/content"
ATTEMPT = "pairwise-rm.io/attempt"
RETRY = "pairwise-rm.io/retry"
OURS = "app.kubernetes.io/part-of=pairwise-rm"
RAY_CLUSTER = "ray.io/cluster"
QUEUE = "kueue.x-k8s.io/queue-name"
AUTOSCALER = "autoscaler"
AUTOSCALER_STANDBY = "autoscaler-standby"
# The resource names that KubeRay itself hands to Ray as accelerators, and NVIDIA's slices of a GPU.
_ACCELERATORS = re.compile(r".*gpu|nvidia\.com/mig-.*|google\.com/tpu|aws\.amazon\.com/neuroncore|huawei\.com/Ascend.*")
_RAY_GPUS = re.compile(r"--num-gpus[= ](\d+)")


def cluster_name(job: Object) -> str | None:
    """The RayCluster on which a RayJob runs, or will run."""
    selector = job.get("spec", {}).get("clusterSelector") or {}
    return job.get("status", {}).get("rayClusterName") or selector.get(RAY_CLUSTER)


def labels(item: Object) -> dict[str, str]:
    return item.get("metadata", {}).get("labels") or {}


def annotation(item: Object, key: str) -> str | None:
    return (item.get("metadata", {}).get("annotations") or {}).get(key)


def created(item: Object) -> float:
    return unix(item.get("metadata", {}).get("creationTimestamp")) or 0.0


def event_time(event: Object) -> float:
    series = event.get("series") or {}
    stamps = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((time for stamp in stamps if (time := unix(stamp))), created(event))


def unix(stamp: str | None) -> float | None:
    """Seconds from the API's RFC 3339, whose fractions can be longer than Python reads."""
    if not stamp:
        return None
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


def condition(item: Object, kind: str) -> Object | None:
    """A condition of an object by its type."""
    for found in item.get("status", {}).get("conditions") or []:
        if found.get("type") == kind:
            return dict(found)
    return None


@dataclass(frozen=True)
class Gpus:
    """GPUs of running pods and of pending pods."""

    held: int = 0
    waited: int = 0

    def __str__(self) -> str:
        words = [f"{self.held} held"] if self.held else []
        return " · ".join(words + ([f"{self.waited} waited for"] if self.waited else []))


def gpus(pods: list[Object]) -> Gpus:
    """Counted over pods that run or are Pending."""
    count = {"Running": 0, "Pending": 0}
    for pod in pods:
        if (phase := pod.get("status", {}).get("phase")) in count:
            count[phase] += gpus_of(pod)
    return Gpus(held=count["Running"], waited=count["Pending"])


def gpus_of(pod: Object) -> int:
    """The accelerators that a pod requests or, if none, the GPUs in its `ray start` command."""
    asked = 0
    for container in containers(pod):
        resources = container.get("resources", {})
        wanted = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
        asked += sum(int(count) for name, count in wanted.items() if is_accelerator(name))
    if asked:
        return asked
    command = " ".join(text for container in containers(pod) for text in container.get("args") or [])
    found = _RAY_GPUS.search(command)
    return int(found[1]) if found else 0


def is_accelerator(resource: str) -> bool:
    return _ACCELERATORS.fullmatch(resource) is not None


def is_true(item: Object, kind: str) -> bool:
    """Whether the condition of this type is True."""
    return (condition(item, kind) or {}).get("status") == "True"


def containers(pod: Object) -> list[Object]:
    return list(pod.get("spec", {}).get("containers") or [])


def statuses(pod: Object) -> list[Object]:
    """Of all containers, init containers first as they start first."""
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def limit_of(pod: Object, container: str, resource: str) -> Any:
    """A container's limit, as it is written in the pod, or None."""
    for item in containers(pod):
        if item.get("name") == container:
            return (item.get("resources", {}).get("limits") or {}).get(resource)
    return None


def part(pod: Object) -> str:
    """`head pod`, `worker pod`, `submitter pod`, `pod`."""
    kind = labels(pod).get("ray.io/node-type")
    if kind in ("head", "worker"):
        return f"{kind} pod"
    return "submitter pod" if "job-name" in labels(pod) else "pod"


def subject(pod: Object) -> str:
    return f"{part(pod)} {pod['metadata']['name']}"


def value_of(pod: Object, container: str | None = None) -> str:
    """The section of the chart's values that shapes this pod, or this container of it."""
    kind = part(pod)
    if kind == "worker pod":
        return f"pools.{labels(pod).get('ray.io/group', '<name>')}"
    if kind == "head pod":
        return "autoscaling" if container in (AUTOSCALER, AUTOSCALER_STANDBY) else "head"
    return "submission"
