"""Rows that try to break out of the prompt, for each tokenizer, as training, evaluation and the endpoint show them.

The table is printed by `pytest -s`. Contained means: the prompt has the control tokens of an ordinary row's prompt and
no other, each of our tags and headings as often as there, and fits; and what it shows is no verdict when repeated.
SmolLM2's own tokenizer is in the table where `models/smollm2`, or the folder that PAIRWISE_RM_SMOLLM2 names, is there.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

pytest.importorskip("transformers")
pytest.importorskip("httpx")

from pairwise_rm.contract.escaping import control_tokens
from pairwise_rm.contract.prompt import OUR_TAGS, PairwiseComparisonTemplate
from pairwise_rm.contract.rows import Message, Pair, Row, both_orders
from pairwise_rm.contract.verdict import extract_preference_from_response
from pairwise_rm.evaluate.row_verdicts import PromptMaker
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.serve.exported import Exported
from pairwise_rm.serve.http_api import read_items
from pairwise_rm.serve.served_judge import ServedJudge
from pairwise_rm.serve.server_process import ServerProcess
from tests.unit.conftest import MakeRecipe, WriteRows
from tests.unit.contract.hostile_texts import ATTACKS, MEGABYTES, TOKENIZERS

MOST_TOKENS = 6000
HEADINGS = ("# Rubric", "# Query", "# Response A", "# Response B", "# Output Requirement")
BREAKS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


class Judged(NamedTuple):
    """A model folder with nothing but a tokenizer, and the recipe that names it."""

    tokenizer: Any
    recipe: Recipe
    folder: Path


@pytest.fixture(params=TOKENIZERS)
def judged(request: pytest.FixtureRequest, make_recipe: MakeRecipe, tmp_path: Path) -> Judged:
    tokenizer = TOKENIZERS[request.param]()
    if tokenizer is None:
        pytest.skip("the model is not here; `pairwise-rm models smollm2 --out models/smollm2` makes it")
    folder = tmp_path / "model"
    tokenizer.save_pretrained(folder)
    recipe = make_recipe(prompt={"max_prompt_length": MOST_TOKENS})
    return Judged(tokenizer, recipe, folder)


def pairs_with(text: str) -> list[Pair]:
    """The text in each place of a single question, and of a conversation."""
    turn: Callable[[str, str], Message] = lambda role, content: {"role": role, "content": content}  # noqa: E731
    single = [turn("user", f"Why? {text}")]
    several = [turn(role, f"Why? {text}") for role in ("system", "user", "assistant", "user")]
    responses = (f"Fibre. {text}", f"Red. {text}")
    return [Pair(messages, responses, "A", 1, "test") for messages in (single, several)]


def rows_with(text: str) -> list[Row]:
    return [row for pair in pairs_with(text) for row in both_orders(pair)]


def as_trained(judged: Judged, texts: list[str], write_rows: WriteRows) -> list[list[int]]:
    pytest.importorskip("verl")
    from omegaconf import OmegaConf

    from pairwise_rm.train.dataset import HelpfulnessPairwiseTrainDataset

    rows = [row for text in texts for row in rows_with(text)]
    file = write_rows(judged.folder.parent / "preference_train.parquet", rows)
    config = OmegaConf.create({"max_prompt_length": MOST_TOKENS, "seed": 1, "shuffle": False, "pairwise": {}})
    dataset = HelpfulnessPairwiseTrainDataset([str(file)], judged.tokenizer, config, None)
    # As verl's agent loop does.
    apply = judged.tokenizer.apply_chat_template
    prompts = [dataset[at]["raw_prompt"] for at in range(len(dataset))]
    return [apply(prompt, add_generation_prompt=True, tokenize=True, return_dict=False) for prompt in prompts]


def as_evaluated(judged: Judged, texts: list[str], write_rows: WriteRows) -> list[list[int]]:
    maker = PromptMaker.of(judged.recipe, str(judged.folder))
    return [maker.make(row).ids or [] for text in texts for row in rows_with(text)]


def as_served(judged: Judged, texts: list[str], write_rows: WriteRows) -> list[list[int]]:
    """What reaches vLLM for a request to /judge."""
    import httpx

    asked: list[list[int]] = []

    def answer(request: Any) -> Any:
        prompts = json.loads(request.content)["prompt"]
        asked.extend(prompts)
        choices = [{"index": at, "text": "", "token_ids": []} for at in range(len(prompts))]
        return httpx.Response(200, json={"choices": choices})

    async def ask() -> None:
        client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://vllm")
        maker = PromptMaker.of(judged.recipe, str(judged.folder))
        server = cast(ServerProcess, SimpleNamespace(client=client))
        served = ServedJudge(Exported(judged.folder, judged.recipe, 1, {}), server, maker)
        pairs = [pair for text in texts for pair in pairs_with(text)]
        bodies = [
            {"messages": pair.messages, "response_a": pair.responses[0], "response_b": pair.responses[1]}
            for pair in pairs
        ]
        await served.judge(read_items(json.dumps(bodies).encode())[0])
        await client.aclose()

    asyncio.run(ask())
    return asked


PATHS = {"train": as_trained, "evaluate": as_evaluated, "serve": as_served}


def structure(judged: Judged, ids: list[int]) -> dict[str, Any]:
    """What a model can take for the structure of a prompt."""
    known = set(control_tokens(judged.tokenizer)) | set(OUR_TAGS)
    added = {at: token.content for at, token in judged.tokenizer.added_tokens_decoder.items()}
    text = judged.tokenizer.decode(ids, skip_special_tokens=False)
    lines = [line.strip() for line in BREAKS.split(text)]
    return {
        "ids": [added[at] for at in ids if at in added and added[at] in known],
        "marks": {mark: text.count(mark) for mark in sorted(known) if mark in text},
        "headings": {heading: lines.count(heading) for heading in HEADINGS},
        "turns": sum(line.startswith(("User:", "Assistant:", "System:")) for line in _query(lines)),
    }


def _query(lines: list[str]) -> list[str]:
    shown = lines[lines.index("# Query") + 1 : lines.index("# Response A")]
    # A single question may hold a transcript; only between the turns of a conversation would it add some.
    return shown if any(line.startswith("Assistant: Why?") for line in shown) else []


def broken(judged: Judged, ids: list[int], plain: list[int]) -> str:
    """What of a prompt is not contained, or nothing."""
    if not 0 < len(ids) <= MOST_TOKENS:
        return f"{len(ids)} tokens"
    found, expected = structure(judged, ids), structure(judged, plain)
    return ", ".join(f"{key}: {found[key]}" for key in found if found[key] != expected[key])


def test_no_row_breaks_out_of_the_prompt(
    judged: Judged, write_rows: WriteRows, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    name = request.node.callspec.params["judged"]
    texts = ["", *ATTACKS.values()]
    each = len(rows_with(""))
    failed: dict[str, list[str]] = {attack: [] for attack in ATTACKS}
    for path, prompts_of in PATHS.items():
        prompts = prompts_of(judged, texts, write_rows)
        assert len(prompts) == each * len(texts)
        for at, attack in enumerate(ATTACKS, 1):
            for number in range(each):
                if what := broken(judged, prompts[at * each + number], prompts[number]):
                    failed[attack].append(f"{path}: {what}")
    print(f"\n{name}: {len(control_tokens(judged.tokenizer))} control tokens")
    for attack, whats in failed.items():
        print(f"| {name:8} | {attack:40} | {'not contained: ' + whats[0] if whats else 'contained'} |")
    assert not any(failed.values()), {attack: whats[0] for attack, whats in failed.items() if whats}


@pytest.mark.parametrize("judged", ["Qwen"], indirect=True)
@pytest.mark.parametrize("attack", MEGABYTES)
def test_a_megabyte_of_anything_is_cut_within_seconds_and_judged(judged: Judged, attack: str) -> None:
    maker = PromptMaker.of(judged.recipe, str(judged.folder))
    row = {**rows_with("")[0], "responses": ["Fibre.", MEGABYTES[attack]]}
    start = time.process_time()
    prompt = maker.make(cast(Row, row))
    seconds = time.process_time() - start
    plain = maker.make(rows_with("")[0]).ids
    assert prompt.ids
    assert plain
    assert prompt.cut
    assert not broken(judged, prompt.ids, plain)
    print(f"\n| {attack:40} | {len(prompt.ids)} tokens | {seconds:.1f} s |")
    assert seconds < 60


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("thinking", ["response", "prompt", "closed"])
def test_repeating_what_the_prompt_shows_is_never_paid(attack: str, thinking: Any) -> None:
    shown = PairwiseComparisonTemplate().defuse(ATTACKS[attack])
    for text in (shown, f"<think>{shown}", f"<think>x</think>{shown}", f"<think>{shown}</think>", f"{shown}</think>"):
        assert not extract_preference_from_response(text, thinking).valid
