"""The dataset that verl loads. Its base class is verl's, whose import takes ten seconds: paid once, here."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl")
pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pyarrow")

from omegaconf import OmegaConf

import pairwise_rm
from pairwise_rm.contract.rows import Row, UnreadableRow
from pairwise_rm.errors import InputError
from pairwise_rm.train.dataset import HelpfulnessPairwiseTrainDataset
from tests.unit.conftest import MakeRows, WriteRows

Load = Callable[..., HelpfulnessPairwiseTrainDataset]
LONG = "word " * 900


@pytest.fixture
def file(tmp_path: Path, make_rows: MakeRows, write_rows: WriteRows) -> Callable[..., Path]:
    def write(rows: list[Row] | None = None, name: str = "preference_train.parquet") -> Path:
        return write_rows(tmp_path / name, make_rows(10) if rows is None else rows)

    return write


@pytest.fixture
def load(tokenizer: Any) -> Load:
    def make(
        files: Path | list[Path], max_samples: int = -1, pairwise: dict[str, Any] | None = None, **config: Any
    ) -> HelpfulnessPairwiseTrainDataset:
        values = {"max_prompt_length": 600, "seed": 1, "shuffle": True, "pairwise": pairwise or {}, **config}
        names = [str(path) for path in (files if isinstance(files, list) else [files])]
        return HelpfulnessPairwiseTrainDataset(names, tokenizer, OmegaConf.create(values), None, max_samples)

    return make


def test_the_public_name_is_this_dataset() -> None:
    assert pairwise_rm.HelpfulnessPairwiseTrainDataset is HelpfulnessPairwiseTrainDataset


def test_a_row_becomes_what_verl_wants(load: Load, file: Callable[..., Path], make_rows: MakeRows) -> None:
    dataset = load(file())
    row, sample = make_rows(10)[3], dataset[3]
    assert len(dataset) == 20
    assert sample["reward_model"] == {"style": "rule", "ground_truth": "B"}
    assert sample["data_source"] == "test"
    extra = {"index": 3, "pair_id": row["pair_id"], "order": "swapped", "strength": 2, "cut": False}
    assert sample["extra_info"] == extra
    prompt = sample["raw_prompt"][0]["content"]
    assert "What is 1 and one?" in prompt
    assert prompt.index("I do not know 1.") < prompt.index("It is 2.")


def test_every_sample_has_the_same_keys(load: Load, file: Callable[..., Path], make_rows: MakeRows) -> None:
    dataset = load(file([*make_rows(1), *make_rows(1, strength=None, preferred="tie")]))
    samples = [dataset[index] for index in range(len(dataset))]
    assert len({frozenset(sample) for sample in samples}) == 1
    assert len({frozenset(sample["extra_info"]) for sample in samples}) == 1
    assert [sample["extra_info"]["strength"] for sample in samples] == [2, 2, -1, -1]


def test_the_prompt_section_of_the_recipe_reaches_the_prompt(load: Load, file: Callable[..., Path]) -> None:
    dataset = load(file(), pairwise={"rubric": "Prefer rhymes.", "system": "You judge.", "overlong": "drop"})
    system, prompt = dataset[0]["raw_prompt"]
    assert system == {"role": "system", "content": "You judge."}
    assert "Prefer rhymes." in prompt["content"]


def test_special_tokens_of_the_tokenizer_are_inert_in_the_prompt(
    load: Load, file: Callable[..., Path], make_rows: MakeRows
) -> None:
    dataset = load(file(make_rows(1, responses=["bye<|im_end|>", "hi"])))
    assert "<|im_end|>" not in dataset[0]["raw_prompt"][0]["content"]


def test_the_three_methods_of_the_rm_gallery_tutorial_do_what_it_says(load: Load, file: Callable[..., Path]) -> None:
    dataset = load(file())
    upstream = {
        "input": '[{"role": "user", "content": "Why?"}]',
        "output": '[{"answer": {"content": "Because."}}, {"answer": {"content": "No."}}]',
        "metadata": '{"preferred": "A"}',
    }
    row = dataset._normalize_row(upstream)
    assert (row["responses"], row["preferred"]) == (["Because.", "No."], "A")
    assert dataset._extract_ground_truth(upstream) == "A"
    assert "Because." in dataset._build_messages(upstream)[0]["content"]


def test_a_row_without_a_label_raises_and_is_no_tie(load: Load, file: Callable[..., Path]) -> None:
    bare = {"messages": [{"role": "user", "content": "Why?"}], "responses": ["a", "b"]}
    with pytest.raises(UnreadableRow, match="preferred"):
        load(file())._extract_ground_truth(bare)


def test_what_is_left_out_is_counted_by_reason(
    load: Load, file: Callable[..., Path], make_rows: MakeRows, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*make_rows(2), *make_rows(2, responses=[LONG, LONG]), *make_rows(1, responses=["x"])]
    dataset = load(file(rows), pairwise={"overlong": "drop"})
    assert len(dataset) == 4
    assert dataset.dropped == {"prompt_too_long": 4, "not two responses": 2}
    assert dataset.summary() == "4 x prompt_too_long, 2 x not two responses"
    assert "4 samples, dropped: 4 x prompt_too_long, 2 x not two responses" in capsys.readouterr().out


def test_what_is_too_long_is_cut_so_that_it_fits_and_marked(
    load: Load, file: Callable[..., Path], make_rows: MakeRows, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = load(file([*make_rows(2, responses=[LONG, LONG]), *make_rows(1)]))
    assert len(dataset) == 6
    assert [dataset[index]["extra_info"]["cut"] for index in range(6)] == [True] * 4 + [False] * 2
    assert "6 samples, dropped: none; 4 cut to fit" in capsys.readouterr().out
    assert not dataset.dropped
    ids = tokenizer.apply_chat_template(dataset[0]["raw_prompt"], add_generation_prompt=True, return_dict=False)
    assert len(ids) <= 600


def test_an_empty_result_is_an_error_that_says_why(load: Load, file: Callable[..., Path], make_rows: MakeRows) -> None:
    rows = make_rows(3, responses=[LONG, LONG])
    with pytest.raises(InputError, match=r"num_samples=0, every row was dropped: 6 x prompt_too_long"):
        load(file(rows), pairwise={"overlong": "drop"})


def test_several_files_are_one_dataset(load: Load, file: Callable[..., Path], make_rows: MakeRows) -> None:
    assert len(load([file(make_rows(2), "a.parquet"), file(make_rows(1), "b.parquet")])) == 6


def drawn(dataset: HelpfulnessPairwiseTrainDataset) -> list[tuple[str, str]]:
    return [(sample["extra_info"]["pair_id"], sample["extra_info"]["order"]) for sample in dataset]


def test_a_limited_sample_is_drawn_by_the_seed(load: Load, file: Callable[..., Path]) -> None:
    path = file()
    first, again, other = (drawn(load(path, max_samples=6, seed=seed)) for seed in (1, 1, 2))
    assert len(set(first)) == 6
    assert first == again != other


def test_without_shuffling_the_first_rows_are_taken(load: Load, file: Callable[..., Path]) -> None:
    path = file()
    assert drawn(load(path, max_samples=4, shuffle=False)) == drawn(load(path))[:4]


def test_a_limit_above_the_rows_changes_nothing(load: Load, file: Callable[..., Path]) -> None:
    path = file()
    assert drawn(load(path, max_samples=99)) == drawn(load(path))


def test_the_rows_are_left_out_of_a_checkpoint_and_read_again_on_resume(load: Load, file: Callable[..., Path]) -> None:
    path = file()
    dataset = load(path, max_samples=6)
    before = drawn(dataset)
    restored = pickle.loads(pickle.dumps(dataset))
    assert not hasattr(restored, "dataframe")
    restored.resume_dataset_state()
    assert drawn(restored) == before


def test_a_home_folder_in_a_path_expands(
    load: Load, file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file()
    monkeypatch.setenv("HOME", str(path.parent))
    assert len(load(Path("~") / path.name)) == 20
