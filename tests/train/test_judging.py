"""Evaluation and judging through real Ray and real vLLM, on a tiny random model. About a minute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("vllm")

import pyarrow as pa
from pyarrow import parquet

from pairwise_rm.contract.rows import Pair, arrow_schema, both_orders
from pairwise_rm.errors import StageError
from pairwise_rm.evaluate.run import evaluate, write_report
from pairwise_rm.evaluate.verdicts_parquet import read_verdicts
from pairwise_rm.judge.items import Item
from pairwise_rm.judge.run import judge
from pairwise_rm.recipe.model import Recipe
from tests.model_files import save_byte_tokenizer

TEMPLATE = "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}<think>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random two-layer Qwen2 over bytes; its template opens the reasoning in the prompt."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("model")
    tokenizer = save_byte_tokenizer(folder, TEMPLATE, eos="<|im_end|>", pad_token="<pad>")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # vLLM's CPU attention wants heads of at least 32
        num_key_value_heads=1,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).to(torch.float32).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def recipe(model: str) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny",
            "device": "cpu",
            "model": {"path": model, "dtype": "float32", "attention": "sdpa"},
            "train": {"tensor_parallel": 1, "gpus_per_node": 1},
            "prompt": {"max_prompt_length": 2000, "max_response_length": 16},
            "evaluate": {"samples": 2, "batch_size": 3, "bootstrap": 100},
        }
    )


def test_vllm_in_a_ray_actor_judges_both_orders_with_several_samples(
    model: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    made = [Pair([{"role": "user", "content": f"q{at}"}], ("yes", "no"), "A", 1, "test") for at in range(4)]
    data = tmp_path / "d.parquet"
    parquet.write_table(pa.Table.from_pylist([r for p in made for r in both_orders(p)], schema=arrow_schema()), data)
    told: list[tuple[str, int, int]] = []
    found = evaluate(
        recipe, model=model, label="before", data_file=data, folder=tmp_path / "e", progress=lambda *w: told.append(w)
    )
    columns = read_verdicts(found.folder / "verdicts.parquet")
    assert [len(texts) for texts in columns["text"]] == [2] * 8
    assert all(0 < tokens <= 16 for row in columns["sample_tokens"] for tokens in row)
    assert columns["text"][0][0] != columns["text"][0][1]
    assert told[-1] == ("judge", 8, 8)
    assert found.metrics["rows"] == 8
    assert write_report(tmp_path / "e", after=found.folder, recipe=recipe).stat().st_size < 300_000


def test_a_model_that_vllm_cannot_load_fails_with_its_reason(
    model: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = Path(model) / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "max_position_embeddings": 64}))
    try:
        with pytest.raises(StageError, match=r"vLLM: .*max_model_len"):
            judge(recipe, model, [Item.of("Why?", "Because.", "No.")])
    finally:
        config.write_text(json.dumps(content))
