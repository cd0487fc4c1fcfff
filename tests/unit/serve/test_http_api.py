"""The HTTP side of `serve`, real down to a real child process; only vLLM itself is a stand-in (vllm_stand_in.py)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from pairwise_rm.contract.escaping import control_tokens
from pairwise_rm.contract.prompt import PairwiseComparisonTemplate
from pairwise_rm.contract.prompt_fit import PromptFitter
from pairwise_rm.evaluate.row_verdicts import PromptMaker
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.serve.exported import Exported
from pairwise_rm.serve.http_api import MOST_ITEMS, application
from pairwise_rm.serve.served_judge import ServedJudge, completion_request
from pairwise_rm.serve.server_process import ServerProcess
from tests.unit.conftest import MakeRecipe

STAND_IN = Path(__file__).with_name("vllm_stand_in.py")
ITEM = {"prompt": "Why are apples healthy?", "response_a": "Fibre.", "response_b": "They are red."}


@dataclass
class Serving:
    http: TestClient
    served: ServedJudge
    record: Path

    @property
    def asked(self) -> Any:
        """The last request that reached vLLM."""
        return json.loads((self.record / "request.json").read_text())

    def run(self, task: Callable[[], Any]) -> Any:
        """Runs a coroutine function where the application runs."""
        assert self.http.portal
        return self.http.portal.call(task)


def served_judge(recipe: Recipe, tokenizer: Any, record: Path) -> ServedJudge:
    template = PairwiseComparisonTemplate(special_tokens=control_tokens(tokenizer))
    prompt = recipe.prompt
    fitter = PromptFitter(tokenizer, template, prompt.max_prompt_length, prompt.overlong)
    server = ServerProcess(
        lambda socket: [sys.executable, str(STAND_IN), socket], {**os.environ, "RECORD": str(record)}
    )
    return ServedJudge(Exported(record, recipe, 1, {}), server, PromptMaker(fitter, "response"))


@pytest.fixture
def serve(make_recipe: MakeRecipe, tokenizer: Any, tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """`serve(prompt={"overlong": "drop"})`: the application, and a stand-in behind it."""
    started: list[Serving] = []

    def start(**sections: Any) -> Serving:
        served = served_judge(make_recipe(**sections), tokenizer, tmp_path)
        serving = Serving(TestClient(application(lambda: served)).__enter__(), served, tmp_path)
        started.append(serving)
        serving.run(lambda: served.server.start(60))
        return serving

    yield start
    for serving in started:
        serving.run(serving.served.server.stop)
        serving.http.__exit__()


def test_an_item_is_answered_in_both_orders_with_what_they_agree_on(serve: Callable[..., Serving]) -> None:
    answer = serve().http.post("/judge", json=ITEM)
    assert answer.status_code == 200
    judgement = answer.json()
    assert judgement["combined"] == "A"
    assert [(order["order"], order["shown"], order["preferred"]) for order in judgement["orders"]] == [
        ("original", "A", "A"),
        ("swapped", "B", "A"),
    ]
    assert judgement["orders"][0]["reasoning"] == ["x"]


def test_a_list_is_answered_by_a_list_and_ids_come_back(serve: Callable[..., Serving]) -> None:
    items = [{**ITEM, "id": "x1"}, {**ITEM, "prompt": "Other?"}]
    assert [judgement["name"] for judgement in serve().http.post("/judge", json=items).json()] == ["x1", "2"]


def test_vllm_is_asked_for_token_ids_greedily_as_evaluation_asks(serve: Callable[..., Serving], tokenizer: Any) -> None:
    serving = serve()
    serving.http.post("/judge", json=ITEM)
    asked = serving.asked
    assert asked["temperature"] == 0
    assert asked["max_tokens"] == 2048
    assert asked["repetition_penalty"] == 1
    shown = [tokenizer.decode(ids) for ids in asked["prompt"]]
    assert shown[0].index("Fibre.") < shown[0].index("They are red.")
    assert shown[1].index("They are red.") < shown[1].index("Fibre.")


def test_samples_of_a_prompt_follow_each_other_and_are_seeded_on_a_gpu(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(device="cuda", evaluate={"samples": 3}, seed=7)
    from pairwise_rm.evaluate.row_verdicts import sampling_of

    request = completion_request(Exported(tmp_path, recipe, 1, {}), [[1]], sampling_of(recipe))
    assert (request["n"], request["temperature"], request["seed"]) == (3, 1.0, 7)


def test_a_prompt_that_is_too_long_is_told_and_not_asked(serve: Callable[..., Serving]) -> None:
    serving = serve(prompt={"max_prompt_length": 400, "overlong": "drop"})
    judgement = serving.http.post("/judge", json={**ITEM, "response_a": "word " * 500}).json()
    assert judgement["combined"] == "invalid"
    assert {order["reason"] for order in judgement["orders"]} == {"prompt_too_long"}
    assert not (serving.record / "request.json").exists()


def test_responses_that_were_cut_are_told(serve: Callable[..., Serving]) -> None:
    serving = serve(prompt={"max_prompt_length": 400, "overlong": "cut"})
    judgement = serving.http.post("/judge", json={**ITEM, "response_a": "word " * 500}).json()
    assert judgement["combined"] == "A"
    assert all(order["cut"] for order in judgement["orders"])


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "body: not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b"\xff", "body: not UTF-8: invalid start byte at byte 0"),
        (b'"text"', "body: expected a JSON object, found str"),
        (b"[]", f"body: expected 1 to {MOST_ITEMS} items, found 0"),
        (b"{}", "body: expected either prompt or messages"),
        (json.dumps({**ITEM, "model": "x"}).encode(), "body: unknown key 'model'; known are"),
        (json.dumps([ITEM, {**ITEM, "response_b": ""}]).encode(), "body[1]: response_b: expected a text"),
        (json.dumps([ITEM] * (MOST_ITEMS + 1)).encode(), f"body: expected 1 to {MOST_ITEMS} items, found 1025"),
    ],
)
def test_bad_input_is_422_with_one_sentence(body: bytes, sentence: str) -> None:
    def nobody() -> ServedJudge:
        raise AssertionError("vLLM was asked")

    answer = TestClient(application(nobody)).post("/judge", content=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(sentence)
    assert "\n" not in answer.json()["error"]["message"]


def test_v1_goes_to_vllm_with_query_and_headers(serve: Callable[..., Serving]) -> None:
    answer = serve().http.get("/v1/models?limit=1", headers={"authorization": "Bearer x"})
    assert answer.json() == {"path": "/v1/models?limit=1", "auth": "Bearer x"}
    assert answer.headers["content-type"] == "application/json"


def test_what_vllm_refuses_is_refused_in_its_own_words(serve: Callable[..., Serving]) -> None:
    answer = serve().http.post("/v1/completions", json={"prompt": "x"})
    assert (answer.status_code, answer.json()) == (400, {"error": {"message": "no"}})


def test_only_v1_is_forwarded(serve: Callable[..., Serving]) -> None:
    serving = serve()
    for path in ("/health", "/v1/%2e%2e/health", "/collective_rpc", "/v1/x/%2E./../health"):
        assert serving.http.get(path).status_code == 404


def test_an_encoded_question_mark_is_a_part_of_the_path_and_no_query(serve: Callable[..., Serving]) -> None:
    serving = serve()
    for path in ("/v1/models%3Fx%3D1", "/v1/models%00", "/v1/models%23x?y=1"):
        assert serving.http.get(path).json()["path"] == path


def stream(app: Any, sent: Callable[[MutableMapping[str, Any]], None]) -> Any:
    """A streaming completion, asked as a server asks an ASGI application."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/completions",
        "raw_path": b"/v1/completions",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"content-type", b"application/json")],
    }
    body = [{"type": "http.request", "body": b'{"stream": true}', "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        if body:
            return body.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        sent(message)

    return app(scope, receive, send)


def test_a_stream_arrives_while_it_is_made(serve: Callable[..., Serving]) -> None:
    serving, parts = serve(), []

    def sent(message: MutableMapping[str, Any]) -> None:
        parts.append(message.get("body", b""))
        if b"one" in parts[-1]:
            # Only now does the stand-in go on: an answer that is passed on whole would never end.
            (serving.record / "seen").touch()

    async def ask() -> None:
        await asyncio.wait_for(stream(serving.http.app, sent), 60)

    serving.run(ask)
    assert b"".join(parts).endswith(b"data: two\n\n")


def test_a_client_that_goes_away_ends_the_request_to_vllm(serve: Callable[..., Serving]) -> None:
    serving = serve()

    async def ask_and_leave() -> None:
        begun = asyncio.Event()
        task = asyncio.ensure_future(stream(serving.http.app, lambda message: begun.set()))
        await asyncio.wait_for(begun.wait(), 60)
        task.cancel()
        for _ in range(600):
            if (serving.record / "closed").exists():
                return
            await asyncio.sleep(0.1)

    serving.run(ask_and_leave)
    assert (serving.record / "closed").exists(), "vLLM goes on"


def test_health_names_the_model(serve: Callable[..., Serving]) -> None:
    answer = serve().http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "model": "t"})


def test_a_dead_vllm_is_503_with_its_own_last_word(serve: Callable[..., Serving]) -> None:
    serving = serve()
    first = serving.http.post("/v1/completions", json={"die": True})
    for answer in (first, serving.http.get("/healthz"), serving.http.post("/judge", json=ITEM)):
        assert answer.status_code == 503
        assert "ValueError: the GPU is on fire" in answer.json()["error"]["message"]
