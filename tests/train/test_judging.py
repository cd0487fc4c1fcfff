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
