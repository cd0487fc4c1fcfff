"""Runs Ray's autoscaler where KubeRay's container of it has ended.

KubeRay runs the autoscaler as a container beside Ray's head and, for its version 2, gives the pod the restartPolicy
Never: once that container has ended (out of memory, or the Kubernetes API was away while it started), Kubernetes does
not start it again, and the Ray cluster never gets another worker. This is the command of a sidecar, an init container
with a restartPolicy of its own, which Kubernetes does start again in such a pod. It watches the pod's status, and
becomes the autoscaler when the other one has ended; if it ends in turn, its next start finds that again.

A RayCluster whose head pod is never ready does not get its RayJobs, and a pod with a container that has ended cannot be
ready. Where the autoscaler ends so early, the sidecar ends Ray's head, and KubeRay makes the pod anew.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from pairwise_rm.cluster.ray_start_hook import END_FILE
from pairwise_rm.errors import PairwiseError
from pairwise_rm.k8s.client import Cluster
from pairwise_rm.k8s.objects import AUTOSCALER, Object

POLL_SECONDS = 10.0
"""The autoscaler itself takes longer to start."""


def main() -> None:
    cluster, pod = Cluster.connect(namespace=os.environ["RAY_CLUSTER_NAMESPACE"]), os.environ["RAY_HEAD_POD_NAME"]
    told = ""
    while True:
        try:
            if why := how_it_ended(cluster.pod(pod)):
                was_ready = has_been_ready(cluster.object("rayclusters", os.environ["RAY_CLUSTER_NAME"]))
                break
            told = ""
        except PairwiseError as error:
            if str(error) != told:  # the API may be away for an hour
                told = str(error)
                print(told, flush=True)
        time.sleep(POLL_SECONDS)
    ended = f"container {AUTOSCALER} has ended ({why}) and is not started again in this pod"
    if was_ready:
        print(f"{ended}: running it here", flush=True)
        os.execvp("ray", autoscaler_command())
    ended = f"{ended}, which can never be ready now: ending Ray's head, so that KubeRay makes another pod"
    print(ended, flush=True)
    (Path.home() / END_FILE).write_text(ended, encoding="utf-8")
    while True:  # ended with the pod
        time.sleep(POLL_SECONDS)


def how_it_ended(pod: Object) -> str | None:
    """Reason and exit code of KubeRay's container once it has ended, else None."""
    for status in pod.get("status", {}).get("containerStatuses") or []:
        if status["name"] == AUTOSCALER and (end := status.get("state", {}).get("terminated")):
            return f"{end.get('reason', 'Error')}, exit code {end.get('exitCode', '?')}"
    return None


def has_been_ready(ray_cluster: Object) -> bool:
    """Whether the RayCluster's pods were all there once, so that its RayJobs have been, or are, submitted."""
    status = ray_cluster.get("status", {})
    provisioned = [one["status"] for one in status.get("conditions") or [] if one["type"] == "RayClusterProvisioned"]
    return status.get("state") == "ready" or "True" in provisioned


def autoscaler_command() -> list[str]:
    """As KubeRay runs it."""
    name, namespace = os.environ["RAY_CLUSTER_NAME"], os.environ["RAY_CLUSTER_NAMESPACE"]
    return ["ray", "kuberay-autoscaler", "--cluster-name", name, "--cluster-namespace", namespace]


if __name__ == "__main__":
    main()
