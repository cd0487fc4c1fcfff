"""A stage that tries again by itself."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from pairwise_rm.cluster.input_wait import EarlierStage
from pairwise_rm.cluster.run import ClusterReporter
from pairwise_rm.cluster.state_file import StateWriter, read_state
from pairwise_rm.progress import Line, Retry, Step, Waiting
from tests.unit.cluster.stage_states import await_stage, put, tell

AGAIN = Retry(2, 9, 4, 5.0, "WorkerDict (pid 7 on 10.0.0.7) died: its node left")


def test_a_stage_that_tries_again_says_so_until_a_step_shows_that_the_new_attempt_works(tmp_path: Path) -> None:
    path, log = tmp_path / "train.json", list[str]()
    reporter = ClusterReporter("train", log.append)

    def now() -> tuple[str, str | None]:
        state = read_state(path)
        assert state is not None
        return state.state, state.error

    with StateWriter(path, "train", "d1") as reporter.state, reporter.part("train") as part:
        part.say(AGAIN)
        retrying = ("retrying", AGAIN.reason)
        assert now() == retrying
        reporter.wait(Waiting("GPUs: 1 wanted, 0 there", 3))
        assert now() == retrying
        reporter.go_on()
        part.say("starting Ray")
        assert now() == retrying
        part.say(Step(5, 20, 0.5, 0.5, 1.0, None, 9.1, 9.1))
        assert now() == ("running", None)
    assert now() == ("succeeded", None)
    assert [json.loads(line)["event"] for line in log if "attempt" in line] == ["retry"]


def test_a_stage_that_tries_again_is_waited_for(tmp_path: Path, quick: list[str]) -> None:
    path = put(
        tmp_path / "t.json", state="retrying", error=AGAIN.reason, progress=Line("train", "train", AGAIN).as_json()
    )
    threading.Timer(0.2, put, [path], {"state": "succeeded"}).start()
    await_stage(EarlierStage("train", "d1"), path, 30, tell(quick))
    assert quick == ["waiting for train (retrying) (0:00:00)"]
