"""Whether the cluster has KubeRay's kinds, and as 1.6 or later has them.

Every account may ask which kinds there are, and RayCronJob came with 1.6. Only where that kind is absent the
definition of RayJob itself is asked, which has `preRunningDeadlineSeconds` since 1.6; an account that may not read
it is given the benefit of the doubt.
"""

from __future__ import annotations

from pairwise_rm.errors import StageError
from pairwise_rm.follow.client import Cluster, Object
from pairwise_rm.follow.faults import Missing, Refused

_HELP = "KubeRay 1.6 or later is needed: its CRDs (`kubectl apply --server-side -k` of config/crd) and its operator"
_SINCE_1_6 = "preRunningDeadlineSeconds"


def check_kuberay(cluster: Cluster) -> None:
    """Raises StageError when ray.io/v1 is absent or older than KubeRay 1.6."""
    try:
        kinds = cluster.ray_resources()
    except Missing:
        kinds = set()
    absent = {"rayjobs", "rayclusters"} - kinds
    if absent:
        what = "ray.io/v1" if len(absent) == 2 else f"ray.io/v1 {absent.pop()}"
        raise StageError(f"{cluster.place}: the cluster does not know {what}; {_HELP}")
    if "raycronjobs" in kinds:
        return
    try:
        definition = cluster.definition("rayjobs.ray.io")
    except Refused:
        return
    if not is_1_6(definition):
        raise StageError(
            f"{cluster.place}: the RayJob CRD is older than KubeRay 1.6 (no spec.{_SINCE_1_6}); {_HELP}. "
            "Helm leaves CRDs that are there as they are, so upgrade them by hand"
        )


def is_1_6(definition: Object) -> bool:
    """Whether this definition of RayJob is that of KubeRay 1.6 or later."""
    for version in definition["spec"]["versions"]:
        if version["name"] == "v1":
            spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
            return _SINCE_1_6 in spec.get("properties", {})
    return False
