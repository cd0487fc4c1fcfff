"""The evaluate stage around vLLM. The one seam is the engine: `Answers` stands for the pool of vLLM replicas."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("transformers")
pa = pytest.importorskip("pyarrow")

from pyarrow import parquet  # noqa: E402

from pairwise_rm.contract.prompt_identity import prompt_id  # noqa: E402
from pairwise_rm.contract.rows import Pair, Row, arrow_schema, both_orders  # noqa: E402
from pairwise_rm.errors import InputError, StageError  # noqa: E402
from pairwise_rm.evaluate import row_verdicts  # noqa: E402
from pairwise_rm.evaluate import run as evaluate_run  # noqa: E402
from pairwise_rm.evaluate.engine import engine_arguments  # noqa: E402
from pairwise_rm.evaluate.result import Evaluation  # noqa: E402
from pairwise_rm.evaluate.run import evaluate, spread, write_report  # noqa: E402
from pairwise_rm.evaluate.verdicts_parquet import read_verdicts  # noqa: E402
from pairwise_rm.pipeline import evaluate_model  # noqa: E402
from pairwise_rm.progress import Event  # noqa: E402
from pairwise_rm.recipe.model import Recipe  # noqa: E402
from tests.model_files import safetensors, save_byte_tokenizer  # noqa: E402
from tests.unit.evaluate.engine_stub import (  # noqa: E402
    GOOD,
    Answers,
    disk_full_at,
    prefers_yes,
    stops_after,
    terminates_itself,
)

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that passes preflight, with a real byte-level tokenizer and no real weights."""
    folder = tmp_path_factory.mktemp("model")
    save_byte_tokenizer(folder, TEMPLATE, eos="<eos>")
    (folder / "model.safetensors").write_bytes(safetensors(1))
    (folder / "config.json").write_text("{}")
    return str(folder)


def recipe(model: str, **sections: Any) -> Recipe:
    given: dict[str, Any] = {
        "name": "t",
        "device": "cpu",
        "model": {"path": model, "dtype": "float32", "attention": "sdpa"},
        "train": {"tensor_parallel": 1, "gpus_per_node": 1},
        "evaluate": {"bootstrap": 100},
    }
    for name, values in sections.items():
        given[name] = {**given.get(name, {}), **values}
    return Recipe.model_validate(given)


def pairs(count: int) -> list[Row]:
    made = [Pair([{"role": "user", "content": f"q{at}"}], ("yes", f"no {at}"), "A", 1, "test") for at in range(count)]
    return [row for pair in made for row in both_orders(pair)]


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=arrow_schema()), path)
    return path


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    pool = Answers(prefers_yes)
    monkeypatch.setattr(row_verdicts, "engines", pool.engines)
    return pool


def run(model: str, folder: Path, data: Path, label: str = "after", **more: Any) -> Evaluation:
    sections = more.pop("sections", {})
    return evaluate(recipe(model, **sections), model=model, label=label, data_file=data, folder=folder, **more)


def test_a_judge_that_is_always_right_scores_1_in_both_orders(model: str, tmp_path: Path, answers: Answers) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(4))
    told: list[tuple[str, int, int]] = []
    found = run(model, tmp_path / "evaluation", data, progress=lambda *what: told.append(what))
    assert found.accuracy == found.metrics["both_orders_right"]["value"] == 1.0
    assert found.metrics["share_a"]["value"] == 0.5
    assert told[-1] == ("judge", 8, 8)
    columns = read_verdicts(found.folder / "verdicts.parquet")
    assert columns["verdict"] == ["A", "B"] * 4
    assert columns["reasoning"][0] == ["One helps more."]
    assert set(columns["prompt_id"]) == {prompt_id([{"role": "user", "content": f"Q{at} "}]) for at in range(4)}


def test_a_verdict_has_the_id_of_its_source_and_the_report_shows_it(
    model: str, tmp_path: Path, answers: Answers
) -> None:
    rows = [{**row, "source_id": "bench-7"} for row in pairs(1)]
    found = run(model, tmp_path / "e", write_rows(tmp_path / "d.parquet", rows))  # type: ignore[arg-type]
    assert read_verdicts(found.folder / "verdicts.parquet")["source_id"] == ["bench-7", "bench-7"]
    page = write_report(tmp_path / "e", after=found.folder, recipe=recipe(model))
    assert "id bench-7" in page.read_text()


def test_verdicts_of_an_earlier_version_have_no_id(model: str, tmp_path: Path, answers: Answers) -> None:
    file = run(model, tmp_path / "e", write_rows(tmp_path / "d.parquet", pairs(1))).folder / "verdicts.parquet"
    parquet.write_table(parquet.read_table(file).drop_columns("source_id"), file)
    assert read_verdicts(file)["source_id"] == [None, None]


def test_the_prompt_that_vllm_gets_is_the_template_with_both_responses(
    model: str, tmp_path: Path, answers: Answers
) -> None:
    run(model, tmp_path / "e", write_rows(tmp_path / "d.parquet", pairs(1)))
    assert "# Response A\nyes\n\n# Response B\nno 0" in answers.asked[0]
    assert "# Response A\nno 0\n\n# Response B\nyes" in answers.asked[1]


def test_an_evaluation_that_is_there_is_not_repeated(model: str, tmp_path: Path, answers: Answers) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(2))
    first, second = run(model, tmp_path / "e", data), run(model, tmp_path / "e", data)
    assert (first.skipped, second.skipped, answers.starts) == (False, True, 1)
    assert first.metrics == second.metrics


def test_another_configuration_under_the_same_label_is_refused_and_the_old_one_stays(
    model: str, tmp_path: Path, answers: Answers
) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(2))
    before = (run(model, tmp_path / "e", data).folder / "metrics.json").read_bytes()
    with pytest.raises(InputError, match=r"another configuration \(differs in prompt\.rubric\)"):
        run(model, tmp_path / "e", data, sections={"prompt": {"rubric": "The shorter one."}})
    assert (tmp_path / "e/after/metrics.json").read_bytes() == before
    assert not run(model, tmp_path / "e", data, sections={"prompt": {"rubric": "x"}}, replace=True).skipped


def test_a_run_that_fails_leaves_the_earlier_evaluation(model: str, tmp_path: Path, answers: Answers) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(2))
    run(model, tmp_path / "e", data)

    def dies(prompt: str) -> str:
        raise StageError("vLLM: no GPU left")

    answers.answer = dies
    with pytest.raises(StageError, match="no GPU left"):
        run(model, tmp_path / "e", data, sections={"evaluate": {"samples": 2}}, replace=True)
    assert Evaluation.read(tmp_path / "e/after").accuracy == 1.0
    assert [item.name for item in (tmp_path / "e").iterdir()] == ["after"]


def test_a_prompt_that_does_not_fit_is_counted_and_not_lost(model: str, tmp_path: Path, answers: Answers) -> None:
    long = both_orders(Pair([{"role": "user", "content": "q " * 4000}], ("yes", "no"), "A", 1, "test"))
    data = write_rows(tmp_path / "d.parquet", [*pairs(1), *long])
    found = run(model, tmp_path / "e", data, sections={"prompt": {"max_prompt_length": 3000, "overlong": "drop"}})
    assert found.metrics["invalid_by_reason"] == {"prompt_too_long": 2}
    assert (found.accuracy, len(answers.asked)) == (0.5, 2)


def test_several_samples_are_put_to_the_vote(model: str, tmp_path: Path, answers: Answers) -> None:
    found = run(
        model, tmp_path / "e", write_rows(tmp_path / "d.parquet", pairs(1)), sections={"evaluate": {"samples": 3}}
    )
    assert found.metrics["voting"]["majority of 3"]["value"] == 1.0
    assert found.metrics["manifest"]["sampling"]["temperature"] == 1.0


def test_two_models_are_compared_on_the_same_rows(model: str, tmp_path: Path, answers: Answers) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(3))
    answers.answer = lambda prompt: GOOD.format("A")
    before = run(model, tmp_path / "e", data, "before")
    answers.answer = prefers_yes
    after = run(model, tmp_path / "e", data, "after", against=before.folder)
    assert (before.accuracy, after.accuracy) == (0.5, 1.0)
    assert after.comparison is not None
    assert after.comparison["difference"]["accuracy"]["value"] == 0.5
    assert (after.comparison["pairs_fixed"], after.comparison["broken"]) == (3, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"PAR1", "not a readable parquet"),
        (pa.table({"text": ["x"]}), "expected the columns messages, preferred, responses; found text"),
        (arrow_schema().empty_table(), "holds no rows"),
    ],
)
def test_a_data_file_that_cannot_be_judged_is_refused_before_anything_starts(
    model: str, tmp_path: Path, answers: Answers, content: Any, message: str
) -> None:
    data = tmp_path / "d.parquet"
    if isinstance(content, bytes):
        data.write_bytes(content)
    elif content is not None:
        parquet.write_table(content, data)
    with pytest.raises(InputError, match=message):
        run(model, tmp_path / "e", data)
    assert answers.starts == 0
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("label", ["", "..", "a/b"])
def test_a_label_that_is_no_folder_name_is_refused(model: str, tmp_path: Path, label: str) -> None:
    with pytest.raises(InputError, match="cannot name a folder"):
        run(model, tmp_path, tmp_path / "d.parquet", label)


def test_a_limit_takes_whole_pairs_from_all_over_the_file() -> None:
    rows = pairs(10)
    kept = spread(rows, 5)
    assert [row["messages"][0]["content"] for row in kept[::2]] == ["q0", "q2", "q4", "q6", "q8"]
    assert len(kept) == 10
    assert spread(rows, None) == spread(rows, 99) == rows


def test_the_engine_gets_the_recipes_dtype_and_room_for_prompt_and_response(model: str) -> None:
    found = engine_arguments(recipe(model, prompt={"max_prompt_length": 100, "max_response_length": 20}), model)
    assert (found["dtype"], found["max_model_len"], found["enforce_eager"]) == ("float32", 120, True)


def test_the_report_escapes_what_responses_and_the_judge_wrote(model: str, tmp_path: Path, answers: Answers) -> None:
    hostile = '<script>alert("x")</script>'
    row = Pair([{"role": "user", "content": hostile}], (hostile + "yes", hostile + "no"), "A", 2, "test", hostile)
    data = write_rows(tmp_path / "d.parquet", [*pairs(2), *both_orders(row)])
    answers.answer = lambda prompt: f"<think>{hostile}</think><preference>A</preference>"
    run(model, tmp_path / "e", data, "before")
    answers.answer = prefers_yes
    run(model, tmp_path / "e", data, "after")
    curve = tmp_path / "metrics.jsonl"
    curve.write_text('{"step": 1, "accuracy": 0.5}\n{"step": 2, "accuracy": 0.75, "kl_loss": NaN}\n{"step": 3, "acc')
    page = write_report(
        tmp_path / "e",
        before=tmp_path / "e/before",
        after=tmp_path / "e/after",
        training_metrics=curve,
        recipe=recipe(model),
    )
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;alert(" in html
    assert "http" not in html
    assert html.count("<polyline") == 2
    assert "+33.3 points" in html or "points</b>" in html


def test_the_report_of_one_model_shows_no_comparison(model: str, tmp_path: Path, answers: Answers) -> None:
    run(model, tmp_path / "e", write_rows(tmp_path / "d.parquet", pairs(2)))
    html = write_report(tmp_path / "e", after=tmp_path / "e/after", recipe=recipe(model)).read_text(encoding="utf-8")
    assert "100.0 %" in html
    assert "before" not in html.split("</style>")[1]


def test_the_report_marks_where_training_was_interrupted(model: str, tmp_path: Path, answers: Answers) -> None:
    train = tmp_path / "train"
    train.mkdir()
    (train / "metrics.jsonl").write_text("".join(f'{{"step": {n}, "accuracy": 0.5}}\n' for n in range(1, 11)))
    lost = '"outcome": "failed", "reason": "its node left"'
    (train / "attempts.jsonl").write_text(
        f'{{"attempt": 1, "began": 1.0, "after": 0, {lost}}}\n{{"attempt": 2, "began": 2.0, "after": 4, {lost}}}\n'
        '{"attempt": 3, "began": 3.0, "after": 4, "outcome": "done"}\n'
    )
    run(model, tmp_path / "e", write_rows(tmp_path / "d.parquet", pairs(2)))
    html = write_report(
        tmp_path / "e", after=tmp_path / "e/after", recipe=recipe(model), training_metrics=train / "metrics.jsonl"
    ).read_text(encoding="utf-8")
    assert 'style="left:33.33%" title="after step 4 (2 times): its node left"' in html
    assert "Interrupted 2 times" in html


def test_a_report_without_an_evaluation_says_what_is_missing(model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json: no such file"):
        write_report(tmp_path, after=tmp_path / "after", recipe=recipe(model))


def test_a_prompt_that_only_seems_to_fit_never_reaches_vllm(model: str, tmp_path: Path, answers: Answers) -> None:
    """Every byte is a token here, twice what the length estimate expects of English."""
    short = both_orders(Pair([{"role": "user", "content": "q"}], ("yes", "no"), "A", 1, "test"))
    longer = both_orders(Pair([{"role": "user", "content": "q" * 70}], ("yes", "no"), "A", 1, "test"))
    data = write_rows(tmp_path / "d.parquet", [*short, *longer])
    run(model, tmp_path / "whole", data)
    length = len(answers.asked[-1])
    found = run(
        model, tmp_path / "e", data, sections={"prompt": {"max_prompt_length": length - 60, "overlong": "drop"}}
    )
    assert found.metrics["invalid_by_reason"] == {"prompt_too_long": 2}
    assert len(answers.asked) == 2


@pytest.mark.parametrize(
    ("overlong", "hint"),
    [("drop", "raise it, or set prompt.overlong=cut"), ("cut", "the prompt itself takes so much; raise it")],
)
def test_where_no_prompt_fits_vllm_is_not_started_and_nothing_is_written(
    model: str, tmp_path: Path, answers: Answers, overlong: str, hint: str
) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(2))
    with pytest.raises(InputError) as refused:
        run(model, tmp_path / "e", data, sections={"prompt": {"max_prompt_length": 60, "overlong": overlong}})
    told = f"prompt.max_prompt_length: none of the 4 rows of {data} fits into 60 tokens; {hint}"
    assert str(refused.value) == told
    assert answers.starts == 0
    assert not (tmp_path / "e").exists()


class Lines:
    """A reporter that keeps what the parts say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @contextlib.contextmanager
    def part(self, name: str, note: str = "") -> Iterator[Lines]:
        yield self

    def say(self, event: Event | str) -> None:
        self.said.append(str(event))

    def live(self, event: Event | str) -> None: ...


def told(model: str, folder: Path, data: Path, **sections: Any) -> list[str]:
    """What the console shows of an evaluation."""
    lines = Lines()
    evaluate_model(recipe(model, **sections), model, "after", data, folder, lines)
    return lines.said


def test_the_console_says_what_was_unreadable_too_long_cut_and_invalid(
    model: str, tmp_path: Path, answers: Answers
) -> None:
    long = both_orders(Pair([{"role": "user", "content": "q " * 4000}], ("yes", "no"), "A", 1, "test"))
    bad: Any = {**pairs(1)[0], "responses": ["one"]}
    data = write_rows(tmp_path / "d.parquet", [*pairs(2), *long, bad])
    answers.answer = lambda text: "A" if "q1" in text else prefers_yes(text)
    sections = {"prompt": {"max_prompt_length": 3000, "overlong": "drop"}}
    *remarks, figures = told(model, tmp_path / "drop", data, **sections)
    assert remarks == [
        "left out  1 unreadable rows: 1 x not two responses",
        "invalid  4 of 6 rows: 2 x no verdict, 2 x prompt too long",
    ]
    assert re.sub(r" \[.*?\]", "", figures) == (
        "accuracy 0.333  both orders right 0.333  invalid 0.667  (3 pairs, both orders)"
    )
    sections["prompt"]["overlong"] = "cut"
    answers.answer = prefers_yes
    assert told(model, tmp_path / "cut", data, **sections) == [
        "left out  1 unreadable rows: 1 x not two responses",
        "cut  2 of 6 rows, to fit the prompt",
        "accuracy 1.000 [0.292, 1.000]  both orders right 1.000 [0.292, 1.000]  invalid 0.000 [0.000, 0.708]  "
        "(3 pairs, both orders)",
    ]
    assert read_verdicts(tmp_path / "cut/after/verdicts.parquet")["cut"] == [False] * 4 + [True] * 2


def test_the_console_says_where_the_pairs_are_in_one_order(model: str, tmp_path: Path, answers: Answers) -> None:
    rows = pairs(3)
    one_order = write_rows(tmp_path / "one.parquet", rows[::2])
    assert told(model, tmp_path / "one", one_order) == [
        "accuracy 1.000 [0.292, 1.000]  invalid 0.000 [0.000, 0.708]  (3 pairs, one order)"
    ]
    some = write_rows(tmp_path / "some.parquet", rows[:4] + rows[4::2])
    assert told(model, tmp_path / "some", some)[-1].endswith("(3 pairs, 2 of them in both orders)")


def test_one_prompt_has_no_interval_and_a_report(model: str, tmp_path: Path, answers: Answers) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(1))
    assert told(model, tmp_path / "e", data) == [
        "accuracy 1.000  both orders right 1.000  invalid 0.000  (1 pairs, both orders)"
    ]
    page = write_report(tmp_path / "e", after=tmp_path / "e" / "after", recipe=recipe(model)).read_text()
    assert "no interval" in page
    assert "whisker after" not in page


IN_TWOS = {"evaluate": {"batch_size": 2}}


def interrupted(model: str, tmp_path: Path, answers: Answers, **more: Any) -> Path:
    """The data of an evaluation of eight rows, two batches of which were judged."""
    data = write_rows(tmp_path / "d.parquet", pairs(4))
    stops_after(2, answers)
    with pytest.raises(StageError, match="no GPU left"):
        run(model, tmp_path / "e", data, sections=IN_TWOS, **more)
    answers.answer = prefers_yes
    return data


def shards(tmp_path: Path) -> list[str]:
    return sorted(file.name for file in (tmp_path / "e/after.partial").iterdir())


def test_an_interrupted_evaluation_goes_on_with_the_rows_that_are_missing(
    model: str, tmp_path: Path, answers: Answers
) -> None:
    data = interrupted(model, tmp_path, answers)
    assert shards(tmp_path) == ["000000000.parquet", "000000002.parquet"]
    assert not (tmp_path / "e/after").exists()
    said: list[str] = []
    told: list[tuple[str, int, int]] = []
    found = run(
        model, tmp_path / "e", data, sections=IN_TWOS,
        say=lambda event: said.append(str(event)), progress=lambda *what: told.append(what),
    )  # fmt: skip
    assert said == ["goes on: 4 of 8 rows are judged already"]
    assert [what for what in told if what[0] == "judge"] == [("judge", 6, 8), ("judge", 8, 8)]
    assert len(answers.asked) == 4
    whole = run(model, tmp_path / "whole", data, sections=IN_TWOS)
    for name in ("verdicts.parquet", "metrics.json"):
        assert (found.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert [item.name for item in (tmp_path / "e").iterdir()] == ["after"]


def test_sigterm_stops_an_evaluation_after_the_batch_that_runs_and_the_same_call_goes_on(
    model: str, tmp_path: Path, answers: Answers
) -> None:
    data, before = write_rows(tmp_path / "d.parquet", pairs(4)), signal.getsignal(signal.SIGTERM)
    terminates_itself(answers)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "e", data, sections=IN_TWOS, say=lambda event: said.append(str(event)))
    assert said == ["stopped; the same command goes on, 2 of 8 rows are judged"]
    assert shards(tmp_path) == ["000000000.parquet"]
    assert signal.getsignal(signal.SIGTERM) is before
    answers.answer = prefers_yes
    assert run(model, tmp_path / "e", data, sections=IN_TWOS).accuracy == 1.0
    assert len(answers.asked) == 6


def test_a_second_sigterm_ends_an_evaluation_at_once(model: str, tmp_path: Path, answers: Answers) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(4))
    terminates_itself(answers, times=2)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "e", data, sections=IN_TWOS)
    assert not (tmp_path / "e/after.partial").exists()


def test_an_evaluation_off_the_main_thread_minds_no_signal(model: str, tmp_path: Path, answers: Answers) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(1))
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(run, model, tmp_path / "e", data).result().accuracy == 1.0


def test_an_evaluation_that_ended_before_its_figures_were_written_starts_no_engine(
    model: str, tmp_path: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(2))
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_run, "_measure", lambda columns, recipe: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(model, tmp_path / "e", data)
    assert run(model, tmp_path / "e", data).accuracy == 1.0
    assert answers.starts == 1


@pytest.mark.parametrize(
    "sections",
    [
        {"prompt": {"rubric": "The shorter one."}},
        {"evaluate": {"samples": 2}},
        {"evaluate": {"temperature": 0.5}},
        {"prompt": {"max_response_length": 100}},
    ],
)
def test_what_was_judged_with_another_configuration_is_removed_and_not_used(
    model: str, tmp_path: Path, answers: Answers, sections: dict[str, Any]
) -> None:
    data = interrupted(model, tmp_path, answers)
    stops_after(1, answers)
    with pytest.raises(StageError, match="no GPU left"):
        run(
            model,
            tmp_path / "e",
            data,
            sections={**sections, "evaluate": {**sections.get("evaluate", {}), "batch_size": 2}},
        )
    assert shards(tmp_path) == ["000000000.parquet"]  # its own, and the second one of the other is gone
    answers.answer = prefers_yes
    run(model, tmp_path / "e", data, sections=IN_TWOS)
    assert len(answers.asked) == 8


def test_what_was_judged_with_other_weights_or_on_other_rows_is_not_used(
    model: str, tmp_path: Path, answers: Answers
) -> None:
    data = interrupted(model, tmp_path, answers)
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "model.safetensors").write_bytes(safetensors(2))
    for changed, file in ((str(other), data), (model, write_rows(tmp_path / "o.parquet", pairs(5)))):
        shutil.rmtree(tmp_path / "e")
        interrupted(model, tmp_path, answers)
        run(changed, tmp_path / "e", file, sections=IN_TWOS)
        assert len(answers.asked) == (8 if file == data else 10)


def test_another_batch_size_uses_what_was_judged(model: str, tmp_path: Path, answers: Answers) -> None:
    """A smaller one is what an engine out of memory wants."""
    data = interrupted(model, tmp_path, answers)
    found = run(model, tmp_path / "e", data, sections={"evaluate": {"batch_size": 3}})
    assert len(answers.asked) == 4
    assert read_verdicts(found.folder / "verdicts.parquet")["verdict"] == ["A", "B"] * 4


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "cut":
        del content[len(content) // 2 :]
    elif how == "empty":
        content.clear()
    elif how == "flipped":
        content[40] ^= 1  # in the first column's page
    file.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "empty", "flipped"])
def test_a_damaged_shard_is_judged_again(model: str, tmp_path: Path, answers: Answers, how: str) -> None:
    data = interrupted(model, tmp_path, answers)
    damage(tmp_path / "e/after.partial/000000002.parquet", how)
    said: list[str] = []
    found = run(model, tmp_path / "e", data, sections=IN_TWOS, say=lambda event: said.append(str(event)))
    assert said == [
        f"warning: {tmp_path}/e/after.partial/000000002.parquet: damaged; its rows are judged again",
        "goes on: 2 of 8 rows are judged already",
    ]
    assert len(answers.asked) == 6
    assert read_verdicts(found.folder / "verdicts.parquet")["verdict"] == ["A", "B"] * 4


def test_a_shard_that_was_being_written_is_not_used(model: str, tmp_path: Path, answers: Answers) -> None:
    data = interrupted(model, tmp_path, answers)
    torn = tmp_path / "e/after.partial/.000000004.parquet.123.tmp"
    torn.write_bytes(b"PAR1")
    run(model, tmp_path / "e", data, sections=IN_TWOS)
    assert len(answers.asked) == 4


def test_a_full_disk_is_one_line_and_after_making_room_the_evaluation_goes_on(
    model: str, tmp_path: Path, answers: Answers
) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(4))
    before = run(model, tmp_path / "e", data, sections={"prompt": {"rubric": "The shorter one."}})
    kept = (before.folder / "metrics.json").read_bytes()
    # The answers to the third batch are longer than the room that is left.
    texts = iter([GOOD.format("A"), GOOD.format("B")] * 2)
    noise = random.Random(0)
    answers.answer = lambda prompt: next(texts, "".join(chr(noise.randrange(32, 0x2000)) for _ in range(9000)))
    with disk_full_at(9000), pytest.raises(StageError) as failed:
        run(model, tmp_path / "e", data, sections=IN_TWOS, replace=True)
    assert str(failed.value) == (f"{tmp_path}/e/after.partial/000000004.parquet: cannot be written: File too large")
    assert shards(tmp_path) == ["000000000.parquet", "000000002.parquet"]
    assert (before.folder / "metrics.json").read_bytes() == kept
    answers.answer = prefers_yes
    assert run(model, tmp_path / "e", data, sections=IN_TWOS, replace=True).accuracy == 1.0
    assert len(answers.asked) == 4


def test_a_disk_that_is_full_when_the_figures_are_written_leaves_the_old_ones_and_judges_nothing_twice(
    model: str, tmp_path: Path, answers: Answers
) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(4))
    before = run(model, tmp_path / "e", data, sections={"prompt": {"rubric": "The shorter one."}})
    kept = (before.folder / "metrics.json").read_bytes()
    with disk_full_at(5000), pytest.raises(StageError, match=r"e/after: cannot be written: File too large$"):
        run(model, tmp_path / "e", data, sections=IN_TWOS, replace=True)
    assert (before.folder / "metrics.json").read_bytes() == kept
    assert sorted(item.name for item in (tmp_path / "e").iterdir()) == ["after", "after.partial"]
    assert run(model, tmp_path / "e", data, sections=IN_TWOS, replace=True).accuracy == 1.0
    assert answers.starts == 2


def test_a_folder_that_cannot_be_written_is_named_before_vllm_starts(
    model: str, tmp_path: Path, answers: Answers
) -> None:
    data = write_rows(tmp_path / "d.parquet", pairs(1))
    (tmp_path / "e").mkdir()
    (tmp_path / "e/after.partial").write_text("mine")
    with pytest.raises(StageError, match=r"after\.partial: cannot be written: File exists"):
        run(model, tmp_path / "e", data)
    assert answers.starts == 0


def test_shards_that_a_finished_evaluation_left_are_removed(model: str, tmp_path: Path, answers: Answers) -> None:
    """It was killed between its last rename and their removal."""
    data = interrupted(model, tmp_path, answers)
    shutil.copytree(tmp_path / "e/after.partial", tmp_path / "left")
    run(model, tmp_path / "e", data, sections=IN_TWOS)
    shutil.copytree(tmp_path / "left", tmp_path / "e/after.partial")
    assert run(model, tmp_path / "e", data, sections=IN_TWOS).skipped
    assert [item.name for item in (tmp_path / "e").iterdir()] == ["after"]
