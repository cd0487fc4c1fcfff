"""Why an attempt ended: one line out of the driver's log, and what kind of failure it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairwise_rm.train.failure import Failure, ended_with, failure_in
from pairwise_rm.train.watchdog import DriverFailed, failure_since

# As Ray and verl print them.
RAY_HEAD = "2026-11-23 16:22:37,412 INFO worker.py:1998 -- Started a local Ray instance."
ACTOR = "(TaskRunner pid=4711) "
STALE = "training/rollout_probs_diff_max is 0.91, above train.max_probs_diff 0.01"
OURS = f"""\
{RAY_HEAD}
{ACTOR}Traceback (most recent call last):
{ACTOR}  File "/x/verl/trainer/main_ppo.py", line 12, in run
{ACTOR}    trainer.fit()
Error executing job with overrides: []
ray.exceptions.RayTaskError(StageError): {ACTOR.strip().replace("(", "ray::").replace(")", "")}
  File "/x/pairwise_rm/train/verl_trainer.py", line 33, in _compute_old_log_prob
pairwise_rm.errors.StageError: {STALE}
"""
MEMORY = """\
Traceback (most recent call last):
  File "/x/torch/nn/modules/linear.py", line 125, in forward
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
ray.exceptions.RayTaskError(OutOfMemoryError): ray::WorkerDict.update_actor()
ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
"""
GOES = "step 12: node judge-gpu-worker-x7 is going (preemption, 41 s left); saved"
ASKED = "step 12: asked to save and end; saved"
AGAIN = "step 7: rollouts of 3 of 32 prompts failed, and again when these were rolled out once more: "
DEAD = "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.\n"
KILLED = f"""\
ray.exceptions.RayTaskError(ActorDiedError): \x1b[36mray::TaskRunnerV1.run()\x1b[39m (pid=17442, ip=10.0.0.2)
    output = ray.get(output)
{DEAD.strip()}
\tclass_name: create_colocated_worker_cls.<locals>.WorkerDict
\tactor_id: 11d3e086234eaf0834020a8a01000000
\tpid: 17710
\tname: TJSw55WorkerDict_0:0
\tnamespace: ee6a86f0-1be3-4104-95f1-80b921d66f45
\tip: 10.0.0.2
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed
"""
ENGINE = """\
(vLLMHttpServer pid=29535) WARNING 11-28 12:26:22 [core_client.py:725] [shutdown] MPClient: engine core exited
(vLLMHttpServer pid=29535) ERROR 11-28 12:26:22 [async_llm.py:724] AsyncLLM output_handler failed.
(vLLMHttpServer pid=29535) ERROR 11-28 12:26:22 [async_llm.py:724] Traceback (most recent call last):
(vLLMHttpServer pid=29535) ERROR 11-28 12:26:22 [async_llm.py:724] vllm.v1.engine.exceptions.EngineDeadError: \
EngineCore encountered an issue. See stack trace (above) for the root cause.
(AgentLoopWorkerTQ pid=29916) ray.exceptions.RayTaskError(EngineDeadError): ray::vLLMHttpServer.generate() (pid=29535)
RuntimeError: Sync replay buffer selected terminal groups with no materializable trajectories.
"""
OTHER = "(Actor(ac): job ID=01, task name=reward_0:RewardLoopWorker.__init__, pid=973, actual memory used=0.5GB)"
RAYS_MEMORY = (
    "ray.exceptions.OutOfMemoryError: 1 worker(s) were killed due to the node running low on memory. Memory on the "
    "node (IP: 10.0.0.2, ID: 2b4a97) was 21.26GB / 23.54GB (0.902972); OOM kill reason: Memory usage; "
    "Considered workers: [; Selected to kill: (Actor(7c): job ID=01, task name=vllm_0:JudgeServer.__init__, "
    f"required resources={{CPU: 1}}, pid=1015, actual memory used=0.68GB, worker ID=b1); {'; '.join([OTHER] * 50)}]\n"
)
EMPTY = "pairwise_rm.errors.InputError: a.parquet: num_samples=0, every row was dropped: 8 x prompt_too_long\n"


@pytest.mark.parametrize(
    ("log", "kind", "cause"),
    [
        (OURS, "final", STALE),
        (MEMORY, "memory", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
        (DEAD, "lost", "an actor died: Ray does not say why"),
        (KILLED, "lost", "WorkerDict (pid 17710 on 10.0.0.2) died: its process was killed or crashed"),
        (ENGINE, "lost", "vLLM's engine died: its process was killed or crashed"),
        (
            RAYS_MEMORY,
            "memory",
            "node 10.0.0.2 ran out of memory: 21.26GB of 23.54GB were used, and Ray ended JudgeServer (pid 1015, ",
        ),
        ("RuntimeError: " + "a" * 900 + "\n", "program", "RuntimeError: " + "a" * 486 + " … ("),
        (EMPTY + MEMORY, "final", "a.parquet: num_samples=0, every row was dropped: 8 x prompt_too_long"),
        (
            ACTOR + "ValueError: ground truth must be A, B or tie, got None\n",
            "program",
            "ValueError: ground truth must be A, B or tie, got None",
        ),
        ("KeyError: 'messages'\nRuntimeError: later\n", "program", "KeyError: 'messages'"),
        ("RuntimeError: [gloo] Connection closed by peer\n" + KILLED, "lost", "RuntimeError: [gloo] Connection closed"),
        (OURS.replace(f"StageError: {STALE}", f"Preempted: {GOES}"), "preempted", GOES),
        (OURS.replace(f"StageError: {STALE}", f"Preempted: {ASKED}"), "asked", ASKED),
        (OURS.replace(STALE, AGAIN + "ValueError: no label"), "final", AGAIN + "ValueError: no label"),
        (OURS.replace(STALE, AGAIN + "EngineDeadError: EngineCore"), "lost", AGAIN + "EngineDeadError: EngineCore"),
        ("all went well\nWARNING: an Error: in a sentence\n", "program", "verl ended with exit code 7"),
        ("", "program", "verl ended with exit code 7"),
    ],
)
def test_the_cause_of_a_failure_is_the_first_error_of_the_log_in_one_line(
    tmp_path: Path, log: str, kind: str, cause: str
) -> None:
    path = tmp_path / "train.log"
    path.write_text(log)
    failure = failure_since(path, 0, 0, 7)
    assert failure.kind == kind
    line = str(DriverFailed(failure, path))
    assert line.startswith(f"training {'ended' if kind in ('asked', 'preempted') else 'failed'}: {cause}")
    assert line.endswith(f"(see {path})")
    assert "\n" not in line


def test_the_cause_is_looked_for_in_this_attempt_alone(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text("ValueError: of yesterday\n")
    end = path.stat().st_size
    assert failure_since(path, end, end, 3) == Failure("program", "verl ended with exit code 3")


def test_an_error_that_a_step_was_made_after_is_not_the_cause_when_there_is_another(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    harmless = "ImportError: cannot import name 'x', which a library does without\n"
    path.write_text(harmless)
    step = path.stat().st_size
    assert failure_since(path, step, 0, 1).cause.startswith("ImportError"), "there is no other"
    with open(path, "a") as log:
        log.write(KILLED)
    assert failure_since(path, step, 0, 1).cause.startswith("WorkerDict (pid 17710")


def test_a_driver_that_was_killed_is_told_by_its_signal() -> None:
    assert failure_in([]) is None
    assert ended_with(-9) == Failure("lost", "the driver was ended by SIGKILL")
