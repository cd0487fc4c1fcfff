"""Prompts of which a rollout failed: rolled out once more, and when that fails too the step is refused.

verl logs the error, fills the hole with padding and trains on the rest. What it has for lost rollouts
(`trainer.v1.sampler.sync_refill_failed_groups`) replaces only prompts of which all rollouts failed, by the next
prompts, which changes the order of the data, and does so without end when a reward raises always.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ray
import transfer_queue as tq
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils import tensordict_utils

from pairwise_rm.errors import StageError

AGAIN = "training/prompts_rolled_out_again"
"""Metric: prompts of this step of which a rollout failed at first."""

_PARTITION = "train"
_POLL_SECONDS = 0.1


class Outcome(NamedTuple):
    """Of the prompts of a step: those of which all rollouts have ended, and those of them with one that is missing."""

    ended: set[str]
    lost: set[str]


def outcome(tags: Mapping[str, Mapping[str, Any]], rollouts: int) -> Outcome:
    """From TransferQueue's tags: a prompt's own key is its uid, that of a rollout `uid_session_index`."""
    ended = {key for key, tag in tags.items() if tag.get("is_prompt") and tag["status"] in ("finished", "failure")}
    sessions: dict[str, set[str]] = {uid: set() for uid in ended}
    for key, tag in tags.items():
        uid, _, rest = key.partition("_")
        if uid in sessions and not tag.get("is_prompt"):
            sessions[uid].add(rest.partition("_")[0])
    lost = {uid for uid in ended if tags[uid]["status"] == "failure" or len(sessions[uid]) < rollouts}
    return Outcome(ended, lost)


class LostRollouts:
    """Waits for the rollouts of a step on the driver.

    `submit` registers prompts and starts their rollouts; `causes` gives the errors since it was last asked, by uid;
    `ended` hears how many prompts have all their rollouts, as their number grows.
    """

    def __init__(
        self,
        rollouts: int,
        submit: Callable[[Any], object],
        causes: Callable[[], dict[str, str]],
        ended: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._rollouts, self._submit, self._causes, self._ended = rollouts, submit, causes, ended
        self._prompts: dict[str, tuple[Any, int]] = {}
        self._again: set[str] = set()
        self._errors: dict[str, str] = {}

    def begin_step(self) -> None:
        self._prompts, self._again, self._errors = {}, set(), {}

    def submitted(self, batch: Any) -> None:
        """Keeps the prompts, as verl submits them, until the step's end."""
        self._prompts.update({uid: (batch, row) for row, uid in enumerate(batch["uid"])})

    def wait(self, step: int) -> dict[str, float]:
        """Returns, with a metric, when all rollouts are there. Raises StageError when a prompt fails twice."""
        while self._prompts:
            tags = (tq.kv_list(_PARTITION) or {}).get(_PARTITION, {})
            ended, lost = outcome({key: tag for key, tag in tags.items() if self._is_ours(key)}, self._rollouts)
            self._ended(len(ended) - len(lost))
            if lost:
                self._roll_out_again(step, lost, list(tags))
            elif len(ended) == len(self._prompts):
                break
            time.sleep(_POLL_SECONDS)
        return {AGAIN: float(len(self._again))}

    def _is_ours(self, key: str) -> bool:
        return key.partition("_")[0] in self._prompts

    def _roll_out_again(self, step: int, lost: set[str], keys: Sequence[str]) -> None:
        # Also of prompts whose other rollouts go on, and which are lost later.
        self._errors |= self._causes()
        prompts = len(self._prompts)
        if twice := lost & self._again:
            number, error = len(twice), self._error_of(twice)
            raise StageError(
                f"step {step}: rollouts of {number} of {prompts} prompts failed, and again when these were rolled out "
                f"once more: {error}; nothing was updated from this step"
            )
        print(
            f"warning: step {step}: rollouts of {len(lost)} of {prompts} prompts failed: "
            f"{self._error_of(lost)}; these prompts are rolled out once more",
            flush=True,
        )
        self._again |= lost
        tq.kv_clear(keys=[key for key in keys if key.partition("_")[0] in lost], partition_id=_PARTITION)
        batches = {id(batch): batch for batch, _ in self._prompts.values()}
        for batch in list(batches.values()):
            rows = sorted(row for uid in lost for of, row in [self._prompts[uid]] if of is batch)
            if rows:
                self._submit(tensordict_utils.index_select_tensor_dict(batch, rows))

    def _error_of(self, lost: set[str]) -> str:
        return next((error for uid, error in self._errors.items() if uid in lost), "no error is known, see train.log")


# ---- the errors ----------------------------------------------------------------------------------


class JudgeAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """verl's worker, which keeps the error of a rollout that fails; verl's own only logs it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._errors: dict[str, str] = {}

    async def _run_agent_loop(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._run_agent_loop(*args, **kwargs)
        except Exception as error:
            self._errors.setdefault(kwargs["uid"], in_one_line(error))
            raise

    async def take_errors(self) -> dict[str, str]:
        """The errors since the last call, by the prompt's uid."""
        errors, self._errors = self._errors, {}
        return errors


class JudgeAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager with these workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(JudgeAgentLoopWorker)


def errors_of(manager: Any) -> dict[str, str]:
    """What the manager's workers keep; nothing for those of a class that `train.verl` names."""
    asked = [worker.take_errors.remote() for worker in manager.agent_loop_workers if hasattr(worker, "take_errors")]
    return {uid: cause for errors in ray.get(asked) for uid, cause in errors.items()}


def in_one_line(error: BaseException) -> str:
    """Type and message of an error, of the innermost one where Ray carried it from another process."""
    while isinstance(inner := getattr(error, "cause", None), BaseException):
        error = inner
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'without a message'}"
