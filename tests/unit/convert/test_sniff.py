"""What `convert --sniff` says about files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pairwise_rm.convert.presets import presets
from pairwise_rm.convert.run import convert
from pairwise_rm.convert.sniff import sniff
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import load_data_config
from tests.paths import shared
from tests.unit.command_line import call, refused
from tests.unit.convert.samples import config, rows, write_lines
from tests.unit.convert.test_presets import EXAMPLES

ODD = [
    {
        "question": f"Why {n}?",
        "topic": ["stem", "art"][n % 2],
        "answers": {"left": {"text": f"Left {n}."}, "right": {"text": f"Right {n}."}},
        "better": ["left", "right", "same"][n % 3],
        "id": n,
    }
    for n in range(60)
]


def data_config(said: str) -> str:
    """The data config that is printed, as text."""
    return said[said.index("dataset:") :]


def sniffed(path: Path, lines: list[Any]) -> str:
    return sniff(str(write_lines(path / "pairs.jsonl", lines)))


@pytest.mark.parametrize("name", presets())
def test_the_preset_of_each_example_is_found(name: str) -> None:
    said = sniff(str(EXAMPLES / f"{name}.jsonl"))
    assert f"fits `source: {name}`" in said
    assert "5 of the first 5 rows are pairs" in said


@pytest.mark.parametrize("name", presets())
def test_each_shape_of_a_preset_is_found_alone_and_in_parquet(name: str, tmp_path: Path) -> None:
    examples = [json.loads(line) for line in (EXAMPLES / f"{name}.jsonl").read_text().splitlines()]
    if name == "trl":
        examples = examples[:1]  # the others are also those of generic names, or mix types that parquet cannot
    for row in (examples[0], examples[-1]):
        path = tmp_path / "pairs.parquet"
        pq.write_table(pa.Table.from_pylist([row]), path)
        assert f"fits `source: {name}`" in sniff(str(path))


def test_helpsteer_and_plain_columns_are_named(tmp_path: Path) -> None:
    assert "fits `source: helpsteer2_pairwise`" in sniffed(tmp_path, rows())
    plain = [{"prompt": f"{n}?", "response_a": "x", "response_b": "y", "preferred": "B"} for n in range(3)]
    assert "fits `source: generic_pairwise` (plain columns)" in sniffed(tmp_path, plain)
    three = [
        {"context": [{"role": "user", "content": "?"}], "response1": "x", "response2": "y", "overall_preference": 1}
    ]
    assert "fits `source: helpsteer3_preference`" in sniffed(tmp_path, three)


def test_the_real_pairs_are_recognised() -> None:
    said = sniff(str(shared("data") / "llmbar.jsonl"))
    assert "fits `source: helpsteer2_pairwise`" in said
    assert yaml.safe_load(data_config(said))["dataset"]["export"]["split"] == "official"


def test_the_data_config_that_is_printed_converts(tmp_path: Path) -> None:
    said = sniffed(tmp_path, rows(12))
    (tmp_path / "data.yaml").write_text(data_config(said))
    assert convert(load_data_config(tmp_path / "data.yaml"), tmp_path / "out").counts.kept == 12


def test_rows_that_are_no_pairs_are_told_with_the_first_of_them(tmp_path: Path) -> None:
    said = sniffed(tmp_path, [*rows(4), {**rows(1)[0], "preference_strength": 9}])
    assert "4 of the first 5 rows are pairs: A 4 · B 0 · tie 0" in said
    assert "1 are not, and need max_rejected: out_of_range 1; row 5: preference_strength: 9" in said


def test_unknown_rows_give_a_mapping_in_which_the_label_is_left_open(tmp_path: Path) -> None:
    said = sniffed(tmp_path, ODD)
    assert "no known source fits" in said
    assert '  better              "left" (values: left, right, same)' in said
    path = tmp_path / "data.yaml"
    path.write_text(data_config(said))
    with pytest.raises(InputError, match=r"data\.yaml:\d+: .*CHANGE_ME is listed for two of A, B and tie"):
        load_data_config(path)


def test_the_completed_mapping_converts(tmp_path: Path) -> None:
    text = data_config(sniffed(tmp_path, ODD))
    text = text.replace("A: [CHANGE_ME], B: [CHANGE_ME], tie: []", "A: [left], B: [right], tie: [same]")
    path = tmp_path / "data.yaml"
    path.write_text(text)
    result = convert(load_data_config(path), tmp_path / "out")
    assert (result.counts.kept, result.counts.ties) == (60, 20)


def test_a_list_of_scored_answers_is_suggested_as_answers(tmp_path: Path) -> None:
    odd = [
        {"query": f"{n}?", "outputs": [{"body": "x", "model": "m", "score": 1}, {"body": "y", "score": 2}]}
        for n in (1, 2)
    ]
    said = sniffed(tmp_path, odd)
    assert "answers: {from: outputs, text: body, score: score}" in said


def test_conversations_are_suggested_as_responses_before_the_names_of_their_models(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "?"}]
    odd = [{"model_a": "x", "model_b": "y", "talk_a": [*asked, {"role": "user", "content": "!"}], "talk_b": asked}] * 3
    said = sniffed(tmp_path, odd)
    assert "response_a: talk_a\n" in said
    assert "response_b: talk_b\n" in said


def test_rows_without_anything_to_go_by_still_print_a_mapping(tmp_path: Path) -> None:
    odd: list[dict[str, Any]] = [{}, {"a": 1}, {"a": None}, {"a": {"b": {}}}, {"a": []}]
    for row in odd:
        assert "prompt: CHANGE_ME" in sniffed(tmp_path, [row])


def test_converted_pairs_are_recognised_as_such(tmp_path: Path) -> None:
    output = convert(config(write_lines(tmp_path / "pairs.jsonl", rows())), tmp_path / "out").train_file
    assert "converted already" in sniff(str(output))


def test_the_command_prints_it_and_takes_nothing_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = call(capsys, "convert", "--sniff", str(EXAMPLES / "arena.jsonl"))
    assert (code, "fits `source: arena`" in out) == (0, True)
    assert refused(capsys, "convert", "smoke", "--sniff", "x.jsonl") == (
        2,
        "--sniff only looks at a file; give it alone",
    )
    assert refused(capsys, "convert", "--sniff", str(tmp_path / "x.jsonl")) == (
        2,
        f"{tmp_path / 'x.jsonl'} does not exist",
    )


@pytest.mark.parametrize(("text", "message"), [("nonsense\n", "not JSON"), ("\n", "holds no rows")])
def test_a_file_without_rows_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        sniff(str(path))


def test_half_a_surrogate_pair_in_a_row_is_shown_escaped(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"a\\ud800": "x\\ud800", "b": "y"}\n')
    assert "a\\ud800" in sniff(str(source)).encode().decode()
