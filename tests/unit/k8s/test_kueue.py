"""A RayJob that Kueue does not admit is reported with its Workload's message and the value to change."""

from __future__ import annotations

import pytest

from pairwise_rm.k8s.diagnosis import issues_of
from pairwise_rm.k8s.issue import Issue
from pairwise_rm.k8s.snapshot import Snapshot, newest_jobs
from pairwise_rm.k8s.stage_status import view
from tests.unit.command_line import call
from tests.unit.k8s_objects import LONG_AGO, NOW, STARTED, Object, job, unschedulable, worker
from tests.unit.kubernetes_stub import KubernetesStub

BUSY = (
    "couldn't assign flavors to pod set a100: insufficient unused quota for nvidia.com/gpu in flavor a100, "
    "1 more needed"
)
NEVER = (
    "insufficient quota for nvidia.com/gpu in flavor {}, previously considered podsets requests (0) + current podset "
    "request (16) > maximum capacity (8)"
)


def condition(kind: str, status: str = "True", reason: str = "Pending", message: str = "") -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": LONG_AGO}


def pending(message: str, reason: str = "Pending") -> Object:
    return condition("QuotaReserved", "False", reason, message)


def workload(*conditions: Object, name: str = "rayjob-judge-train-1", at: str = STARTED, **status: object) -> Object:
    owner = {"kind": "RayJob", "name": "judge-train-0a1b2c3d", "uid": "u-1"}
    return {
        "metadata": {"name": name, "creationTimestamp": at, "ownerReferences": [owner]},
        "spec": {"active": True, "queueName": "judges"},
        "status": {"conditions": list(conditions), **status},
    }


def queued(deployment: str = "Suspended", ray: str = "") -> Object:
    rayjob = job(deployment=deployment, ray=ray)
    rayjob["metadata"].update(uid="u-1", creationTimestamp=LONG_AGO)
    rayjob["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "judges"
    return rayjob


def snapshot(*workloads: Object, rayjob: Object | None = None, pods: list[Object] | None = None) -> Snapshot:
    jobs = newest_jobs([rayjob or queued()])
    return Snapshot("judge", "ml", jobs, workloads=list(workloads), pods=pods or [], now=NOW)


def shown(*workloads: Object) -> str:
    return str(view(snapshot(*workloads), "train", []))


def found(*workloads: Object, rayjob: Object | None = None, pods: list[Object] | None = None) -> list[Issue]:
    return issues_of(snapshot(*workloads, rayjob=rayjob, pods=pods), "train")


def test_a_stage_that_waits_for_quota_shows_kueues_words_and_is_no_issue() -> None:
    assert shown(workload(pending(BUSY))) == f"suspended, in queue judges: {BUSY}"
    assert found(workload(pending(BUSY))) == []


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (
            "LocalQueue nosuch doesn't exist",
            "set batch.kueue.queueName to a LocalQueue of this namespace, or make it (manifests/kueue)",
        ),
        (
            "ClusterQueue nosuch doesn't exist",
            "its LocalQueue names a ClusterQueue that is not there: make it (manifests/kueue)",
        ),
        (
            "couldn't assign flavors to pod set head: resource cpu unavailable in ClusterQueue",
            "the ClusterQueue must cover cpu, memory and nvidia.com/gpu, for the head's and the submitter's pod too",
        ),
        (
            f"couldn't assign flavors to pod set a100: {NEVER.format('a100')}",
            "it can never fit: lower pools.<name>.gpus or resources, or raise the ClusterQueue's nominalQuota",
        ),
    ],
)
def test_what_no_waiting_ends_is_told_with_its_remedy(message: str, remedy: str) -> None:
    held = workload(pending(message, "Inadmissible"))
    (issue,) = found(held)
    assert str(issue) == f"RayJob judge-train-0a1b2c3d is not admitted by queue judges: {message}; {remedy}"
    assert issue.terminal
    assert shown(held) == "suspended, in queue judges", "the issue tells the rest"


def test_a_queue_may_be_made_together_with_the_release() -> None:
    new = pending("LocalQueue judges doesn't exist", "Inadmissible")
    new["lastTransitionTime"] = STARTED
    (issue,) = found(workload(new))
    assert not issue.terminal


def test_a_pod_set_that_never_fits_is_told_though_another_only_waits() -> None:
    (issue,) = found(
        workload(
            pending(f"{BUSY}; couldn't assign flavors to pod set submitter: resource cpu unavailable in ClusterQueue")
        )
    )
    assert issue.terminal


def test_a_flavor_that_others_use_is_waited_for_though_another_never_fits() -> None:
    assert found(workload(pending(f"{BUSY}, {NEVER.format('t4')}"))) == []


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("LocalQueue judges is stopped", "an administrator lets it run, or mends what its status says"),
        (
            "couldn't assign flavors to pod set a100: untolerated taint {gpu yes NoSchedule <nil>} in flavor a100",
            "the ResourceFlavor's labels and taints must fit pools.<name>.nodeSelector and pools.<name>.tolerations",
        ),
    ],
)
def test_what_an_administrator_may_change_is_told_and_waited_for(message: str, remedy: str) -> None:
    (issue,) = found(workload(pending(message)))
    assert str(issue).endswith(f"{message}; {remedy}")
    assert not issue.terminal


def test_a_preempted_stage_says_so_and_that_it_goes_on_from_its_checkpoint() -> None:
    taken = condition("Evicted", reason="Preempted", message="Preempted to accommodate a workload (UID: w-2, …)")
    assert shown(workload(taken, pending(BUSY))) == (
        f"suspended, preempted in queue judges, goes on from its checkpoint when it is admitted again: {BUSY}"
    )


def test_a_stage_that_was_evicted_for_another_reason_is_not_called_preempted() -> None:
    late = condition("Evicted", reason="PodsReadyTimeout", message="Exceeded the PodsReady timeout ml/x")
    assert shown(workload(late, pending("Exceeded the PodsReady timeout ml/x"))).startswith(
        "suspended, evicted in queue judges, goes on from its checkpoint when it is admitted again: Exceeded the"
    )


def test_a_workload_that_was_switched_off_is_told() -> None:
    off = workload(condition("Evicted", reason="Deactivated", message="The workload is deactivated"), at=LONG_AGO)
    off["spec"]["active"] = False
    (issue,) = found(off)
    assert str(issue).endswith(
        "The workload is deactivated; set spec.active of Workload rayjob-judge-train-1 to true when the cause is gone"
    )
    assert issue.terminal


def test_admission_checks_that_are_not_done_are_told() -> None:
    checks = [
        {"name": "budget", "state": "Ready", "message": "granted"},
        {"name": "nodes", "state": "Pending", "message": "being brought up"},
    ]
    reserved = workload(condition("QuotaReserved", reason="QuotaReserved"), admissionChecks=checks)
    assert shown(reserved) == (
        "suspended, in queue judges: its quota is reserved, admission checks are not done: nodes is Pending being "
        "brought up"
    )


def test_an_elastic_stage_that_runs_tells_what_its_newest_slice_waits_for_in_place_of_the_gated_pods() -> None:
    old = workload(condition("QuotaReserved"), condition("Admitted"), at=LONG_AGO)
    new = workload(pending(BUSY), name="rayjob-judge-train-2")
    gated = unschedulable(worker(), "Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated")
    (issue,) = found(old, new, rayjob=queued("Running", "RUNNING"), pods=[gated])
    assert str(issue) == f"RayJob judge-train-0a1b2c3d runs, and waits for more GPUs in queue judges: {BUSY}"
    assert not issue.terminal


def test_an_elastic_stage_that_will_never_get_more_goes_on_with_what_it_has() -> None:
    old = workload(condition("QuotaReserved"), condition("Admitted"), at=LONG_AGO)
    new = workload(pending(NEVER.format("a100")), name="rayjob-judge-train-2")
    (issue,) = found(old, new, rayjob=queued("Running", "RUNNING"))
    assert "runs, and waits for more GPUs in queue judges" in str(issue)
    assert not issue.terminal


def test_a_pod_that_no_gate_holds_is_told_beside_what_the_queue_waits_for() -> None:
    old = workload(condition("QuotaReserved"), condition("Admitted"), at=LONG_AGO)
    new = workload(pending(BUSY), name="rayjob-judge-train-2")
    busy = unschedulable(worker(), "0/1 nodes are available: 1 Insufficient cpu.")
    issues = found(old, new, rayjob=queued("Running", "RUNNING"), pods=[busy])
    assert [issue.subject for issue in issues] == ["RayJob judge-train-0a1b2c3d", "worker pod judge-a100-worker-x1"]


def test_a_stage_that_kuberay_has_not_suspended_yet_is_not_said_to_run() -> None:
    held = workload(pending("LocalQueue nosuch doesn't exist", "Inadmissible"))
    (issue,) = found(held, rayjob=queued(deployment="Initializing"))
    assert "is not admitted by queue judges: LocalQueue nosuch doesn't exist" in str(issue)


def test_a_slice_that_was_replaced_no_longer_counts() -> None:
    old = workload(pending("replaced"), condition("Finished", reason="WorkloadSliceReplaced"))
    new = workload(condition("QuotaReserved"), condition("Admitted"), at=LONG_AGO)
    assert found(old, new, rayjob=queued("Running", "RUNNING")) == []


def test_a_workload_of_an_earlier_rayjob_of_that_name_is_not_taken_for_its_own() -> None:
    other = workload(pending(BUSY))
    other["metadata"]["ownerReferences"][0]["uid"] = "u-0"
    assert shown(other) == "suspended, in queue judges"


def test_a_stage_that_somebody_suspended_without_a_queue_says_so_and_is_no_issue_of_kueue() -> None:
    by_hand = job(deployment="Suspended", ray="")
    assert str(view(snapshot(rayjob=by_hand), "train", [])) == "suspended, spec.suspend is true"
    assert found(rayjob=by_hand) == []


def test_a_workload_that_says_nothing_yet_is_shown_by_its_queue_alone() -> None:
    assert shown(workload()) == "suspended, in queue judges"
    assert found(workload()) == []


def test_an_account_that_may_not_read_workloads_misses_none() -> None:
    unread = Snapshot("judge", "ml", newest_jobs([queued()]), workloads=None, now=NOW)
    assert issues_of(unread, "train") == []


def test_a_missing_workload_is_told_only_of_a_stage_that_has_been_suspended_for_a_while_and_had_none() -> None:
    assert found(rayjob=queued("Running", "RUNNING")) == []
    assert found(workload(condition("Finished"))) == []
    new = queued()
    new["metadata"]["creationTimestamp"] = STARTED
    assert found(rayjob=new) == []


def test_a_stage_for_which_kueue_makes_no_workload_is_told() -> None:
    (issue,) = found()
    assert str(issue) == (
        "RayJob judge-train-0a1b2c3d is suspended in queue judges, and Kueue has made no Workload for it: see whether "
        "Kueue runs, whether its integrations.frameworks names ray.io/rayjob, and whether priorityClass.name is there"
    )


WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/namespaces/ml/workloads"


@pytest.mark.parametrize("answer", [(403, {"message": "no"}), (404, "404 page not found")])
def test_where_workloads_may_not_be_read_or_there_is_no_kueue_the_queue_is_named(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str], answer: tuple[int, Object | str]
) -> None:
    cluster.add("rayjobs", queued())
    cluster.answers[f"GET {WORKLOADS}"] = answer
    code, out, _ = call(capsys, "status")
    assert code == 0
    assert "in queue judges" in out


def test_workloads_of_an_older_kueue_are_read_too(cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add("rayjobs", queued())
    cluster.answers[f"GET {WORKLOADS}"] = (404, "404 page not found")
    older = {"items": [workload(pending("LocalQueue judges doesn't exist"))]}
    cluster.answers[f"GET {WORKLOADS.replace('v1beta2', 'v1beta1')}"] = (200, older)
    assert "LocalQueue judges doesn't exist" in call(capsys, "status")[1]


def test_a_release_without_a_queue_asks_for_no_workloads(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    release.answers[f"GET {WORKLOADS}"] = (422, {"message": "asked"})
    assert call(capsys, "status")[0] == 0
