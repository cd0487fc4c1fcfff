"""A prompt that lost a rollout is rolled out once more, as it was; one that loses it twice ends the step."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from tensordict import TensorDict

pytest.importorskip("verl")

from pairwise_rm.errors import StageError
from pairwise_rm.train import lost_rollouts
from pairwise_rm.train.lost_rollouts import AGAIN, LostRollouts, in_one_line, outcome

Tags = dict[str, dict[str, Any]]


def prompt(status: str) -> dict[str, Any]:
    return {"is_prompt": True, "status": status, "global_steps": 3}


ROLLOUT: dict[str, Any] = {"status": "success", "seq_len": 5}


# ---- what is lost --------------------------------------------------------------------------------


def test_a_prompt_with_all_its_rollouts_is_whole() -> None:
    tags = {"p": prompt("finished"), "p_0_0": ROLLOUT, "p_1_0": ROLLOUT}
    assert outcome(tags, rollouts=2) == ({"p"}, set())


def test_a_prompt_with_an_error_is_lost_once_all_its_rollouts_have_ended() -> None:
    tags = {"p": prompt("failure"), "p_0_0": ROLLOUT, "q": prompt("running"), "r": prompt("pending")}
    assert outcome(tags, rollouts=2) == ({"p"}, {"p"})


def test_a_rollout_that_ended_without_an_error_and_without_a_result_is_lost() -> None:
    assert outcome({"p": prompt("finished"), "p_1_0": ROLLOUT}, rollouts=2).lost == {"p"}


def test_a_rollout_of_several_turns_counts_once() -> None:
    tags = {"p": prompt("finished"), "p_0_0": ROLLOUT, "p_0_1": ROLLOUT}
    assert outcome(tags, rollouts=2).lost == {"p"}


# ---- waiting for a step --------------------------------------------------------------------------


class Queue:
    """TransferQueue's tags, and rollouts that fail as often as `failures` says."""

    def __init__(self, failures: dict[str, int]) -> None:
        self.tags: Tags = {"of-another-step_0_0": ROLLOUT}
        self.failures = failures
        self.submitted: list[list[str]] = []
        self.cleared: list[str] = []

    def kv_list(self, partition_id: str) -> dict[str, Tags]:
        return {partition_id: dict(self.tags)}

    def kv_clear(self, keys: list[str], partition_id: str) -> None:
        assert partition_id == "train"
        self.cleared += keys
        for key in keys:
            del self.tags[key]

    def submit(self, batch: TensorDict) -> None:
        self.submitted.append(list(batch["uid"]))
        for uid in batch["uid"]:
            fails = self.failures.get(uid, 0) > 0
            self.failures[uid] = self.failures.get(uid, 0) - 1
            self.tags[uid] = prompt("failure" if fails else "finished")
            for session in range(1 if fails else 2):
                self.tags[f"{uid}_{session}_0"] = ROLLOUT


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(lost_rollouts, "_POLL_SECONDS", 0)

    def begin(failures: dict[str, int], causes: dict[str, str] | None = None) -> tuple[Queue, LostRollouts]:
        queue = Queue(failures)
        monkeypatch.setattr(lost_rollouts, "tq", queue)
        lost = LostRollouts(2, queue.submit, lambda: causes or {})
        lost.begin_step()
        batch = TensorDict({"ids": torch.arange(3), "uid": ["p", "q", "r"]}, batch_size=3)
        lost.submitted(batch)
        queue.submit(batch)
        return queue, lost

    return begin


def test_a_step_without_a_loss_goes_on_at_once(step: Any) -> None:
    queue, lost = step({})
    assert lost.wait(3) == {AGAIN: 0.0}
    assert queue.submitted == [["p", "q", "r"]]


def test_a_prompt_that_lost_a_rollout_once_is_rolled_out_again_alone_and_the_step_is_whole(
    step: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    queue, lost = step({"q": 1}, {"q": "ValueError: no"})
    assert lost.wait(3) == {AGAIN: 1.0}
    assert queue.submitted == [["p", "q", "r"], ["q"]]
    assert sorted(queue.cleared) == ["q", "q_0_0"], "what is left of the first try must not be trained on beside it"
    assert outcome(queue.tags, 2).lost == set()
    assert "warning: step 3: rollouts of 1 of 3 prompts failed: ValueError: no; these" in capsys.readouterr().out


def test_a_prompt_that_fails_always_ends_the_step_after_one_more_try_with_its_error(step: Any) -> None:
    queue, lost = step({"q": 99}, {"q": "ValueError: no"})
    with pytest.raises(StageError, match=re.escape("step 3: rollouts of 1 of 3 prompts failed, and again")) as caught:
        lost.wait(3)
    assert ": ValueError: no; nothing was updated from this step" in str(caught.value)
    assert queue.submitted == [["p", "q", "r"], ["q"]]


def test_when_all_prompts_fail_always_the_step_ends_after_one_more_try(step: Any) -> None:
    queue, lost = step({"p": 99, "q": 99, "r": 99})
    with pytest.raises(StageError, match=r"rollouts of 3 of 3 prompts failed, and again .* no error is known"):
        lost.wait(3)
    assert queue.submitted == [["p", "q", "r"], ["p", "q", "r"]]


def test_each_step_may_try_again_once(step: Any) -> None:
    queue, lost = step({"q": 1})
    lost.wait(3)
    lost.begin_step()
    batch = TensorDict({"ids": torch.arange(1), "uid": ["s"]}, batch_size=1)
    queue.failures = {"s": 1}
    lost.submitted(batch)
    queue.submit(batch)
    assert lost.wait(4) == {AGAIN: 1.0}


def test_a_step_whose_rollouts_were_not_submitted_here_is_not_waited_for(step: Any) -> None:
    _, lost = step({})
    lost.begin_step()
    assert lost.wait(3) == {AGAIN: 0.0}


# ---- the error -----------------------------------------------------------------------------------


def test_an_error_is_told_in_one_line_by_its_type_and_the_first_line_of_its_message() -> None:
    assert in_one_line(ValueError("no\nmore")) == "ValueError: no"
    assert in_one_line(ValueError()) == "ValueError: without a message"


def test_of_an_error_that_ray_carried_the_one_inside_is_told() -> None:
    from ray.exceptions import RayTaskError

    carried = RayTaskError("compute_score", "Traceback ...", KeyError("label")).as_instanceof_cause()
    assert in_one_line(carried) == "KeyError: 'label'"
