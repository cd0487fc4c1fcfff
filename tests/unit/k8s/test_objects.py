"""What is read from the API's objects: the GPUs of a pod, and times."""

from __future__ import annotations

import pytest

from pairwise_rm.k8s.objects import Gpus, gpus, gpus_of, is_accelerator, unix
from tests.unit.k8s_objects import NOW, head, worker


def test_running_pods_hold_gpus_and_pending_pods_wait_for_them() -> None:
    assert gpus([worker(gpus=8), worker("Pending", gpus=8), worker("Failed", gpus=8), head()]) == Gpus(8, 8)
    assert str(Gpus(8, 8)) == "8 held · 8 waited for"


def test_where_no_device_is_asked_for_rays_own_count_is_taken() -> None:
    pod = worker()
    pod["spec"]["containers"][0] = {"name": "ray-worker", "args": ["ulimit -n 65536; ray start --num-gpus=2 --block"]}
    assert gpus_of(pod) == 2


@pytest.mark.parametrize(
    ("resource", "yes"),
    [
        ("nvidia.com/gpu", True),
        ("amd.com/gpu", True),
        ("nvidia.com/mig-1g.10gb", True),
        ("google.com/tpu", True),
        ("memory", False),
        ("rdma/rdma_shared_device_a", False),
        ("nvidia.com/hostdev", False),
    ],
)
def test_accelerators_are_known_by_their_resource(resource: str, yes: bool) -> None:
    assert is_accelerator(resource) is yes


def test_times_of_the_api_are_read_with_and_without_fractions() -> None:
    assert unix("2025-10-09T08:53:20Z") == NOW
    assert unix("2025-10-09T08:53:20.500000000Z") == NOW + 0.5
    assert unix(None) is None
