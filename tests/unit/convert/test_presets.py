"""Every preset on its example of five rows, `presets/<name>.jsonl`.

In an example the text of the better response ends with "(better)", that of a worse one with "(worse)", and both of a
tie with "(equal)", so that the direction of a label is read off the file by eye.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.contract.rows import Pair
from pairwise_rm.convert.converters import CONVERTERS, SeveralPairs, get_converter
from pairwise_rm.convert.presets import presets
from pairwise_rm.convert.run import convert
from pairwise_rm.errors import InputError
from tests.unit.convert.samples import all_rows, config

EXAMPLES = Path(__file__).parent / "presets"


def example(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def pairs_of(row: dict[str, Any], name: str, most: int | None = None) -> list[Pair]:
    converted = get_converter(name, pairs_per_prompt=most).convert(row)
    return [one.pair for one in (converted.pairs if isinstance(converted, SeveralPairs) else [converted])]


def test_every_preset_has_an_example_of_five_rows_and_no_example_is_left_over() -> None:
    assert {path.stem: len(example(path.stem)) for path in EXAMPLES.iterdir()} == dict.fromkeys(presets(), 5)
    assert not set(presets()) & set(CONVERTERS)


@pytest.mark.parametrize("name", presets())
def test_the_better_response_of_every_example_is_the_preferred_one(name: str) -> None:
    for row in example(name):
        pairs = pairs_of(row, name)
        assert pairs
        for pair in pairs:
            endings = tuple(text.rpartition(" ")[2] for text in pair.responses)
            assert (
                endings
                == {"A": ("(better)", "(worse)"), "B": ("(worse)", "(better)"), "tie": ("(equal)",) * 2}[pair.preferred]
            )
            assert pair.messages[-1]["role"] == "user"
            assert not any("Human:" in turn["content"] for turn in pair.messages)
            assert pair.source == name


@pytest.mark.parametrize("name", presets())
def test_every_example_converts_to_parquet(name: str, tmp_path: Path) -> None:
    export = {"split_ratio": {"train": 0.5, "test": 0.5}, "split_seed": 7}
    result = convert(config(EXAMPLES / f"{name}.jsonl", source=name, export=export), tmp_path / "out")
    assert result.counts.rejected_total == 0
    held = {row["pair_id"] for row in all_rows(tmp_path / "out")}
    assert len(held) == sum(len(pairs_of(row, name)) for row in example(name))


def test_what_stands_beside_the_responses_is_kept() -> None:
    last = {name: pairs_of(example(name)[-1], name)[0] for name in presets()}
    assert last["skywork"].subset == "offsetbias"
    assert last["orca_dpo"].messages[0] == {"role": "system", "content": "You are a helpful assistant."}
    assert (last["judge_bench"].subset, last["judge_bench"].source_id) == ("mmlu-pro-physics", "7a4")
    assert pairs_of(example("arena")[0], "arena")[0].source_id == "0f6a"
    assert last["arena"].source_id == "4-9a1"


def test_of_many_answers_the_best_is_paired_with_each_worse_one_the_worst_first() -> None:
    row = example("nectar")[0]
    assert [pair.responses[1][:7] for pair in pairs_of(row, "nectar")] == ["Because", "Hard to"]
    assert [pair.responses[1][:7] for pair in pairs_of(row, "nectar", most=1)] == ["Because"]
    several = get_converter("nectar", pairs_per_prompt=1).convert(row)
    assert isinstance(several, SeveralPairs)
    assert several.left_out == 1


def test_an_unknown_source_is_refused_with_the_converters_and_the_presets() -> None:
    with pytest.raises(InputError, match=r"'hh': |'hh' is no known converter, .*generic_pairwise.*hh_rlhf"):
        get_converter("hh")
