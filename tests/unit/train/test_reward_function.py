"""A recipe's own reward: what verl gets of it, and what is found out before training begins."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.atomic_io import sha256_of
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import load_recipe
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import run, verl_arguments
from pairwise_rm.train.preflight import Facts
from pairwise_rm.train.reward import compute_score
from pairwise_rm.train.reward_check import check_reward_function
from pairwise_rm.train.reward_function import compute_custom_score
from tests.unit.conftest import MakeRecipe

RIGHT = "<think>x</think><preference>A</preference>"
ARGUMENTS = "data_source, solution_str, ground_truth, extra_info"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file with `def pay(...)`, of which the body is given, or with the whole text that is given."""

    def write(text: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(text if "def pay" in text or "\n" in text else f"def pay({ARGUMENTS}):\n    {text}\n")
        return path

    return write


def score(path: Path, text: str = RIGHT, **given: Any) -> dict[str, Any]:
    function = {"path": str(path), "name": "pay", "sha256": sha256_of(path)}
    return compute_custom_score("s", text, "A", {"strength": 2}, function=function, **given)


# ---- what verl gets ------------------------------------------------------------------------------


def test_the_score_is_the_functions_and_the_measures_are_ours(write: Write) -> None:
    path = write("return len(solution_str)")
    assert score(path) == {**compute_score("s", RIGHT, "A"), "score": float(len(RIGHT))}
    assert score(path, "no verdict") == {**compute_score("s", "no verdict", "A"), "score": 10.0}


def test_the_function_gets_what_verl_gives(write: Write) -> None:
    path = write("return 1.0 if (data_source, ground_truth, extra_info) == ('s', 'A', {'strength': 2}) else 0.0")
    assert score(path)["score"] == 1


def test_other_keys_of_the_function_stand_beside_ours(write: Write) -> None:
    found = score(write("return {'score': 2, 'acc': 7, 'brief': True, 'label': ground_truth}"))
    assert (found["score"], found["acc"]) == (2, 1)
    assert {key: value for key, value in found.items() if key.startswith("custom/")} == {
        "custom/acc": 7.0, "custom/brief": 1.0, "custom/label": "A",
    }  # fmt: skip


def test_a_tensor_with_one_element_is_a_number(write: Write) -> None:
    torch = pytest.importorskip("torch")
    assert torch
    assert score(write(f"import torch\ndef pay({ARGUMENTS}):\n    return torch.tensor([0.5])\n"))["score"] == 0.5


def test_a_coroutine_is_awaited(write: Write) -> None:
    assert score(write(f"async def pay({ARGUMENTS}):\n    return 0.25\n"))["score"] == 0.25


def test_where_the_reasoning_opened_counts_for_our_measures(write: Write) -> None:
    path, text = write("return 0"), "x</think><preference>A</preference>"
    assert [score(path, text, thinking=where)["acc"] for where in ("response", "prompt")] == [0, 1]


def test_the_address_of_a_reward_model_is_passed_on(write: Write) -> None:
    path = write(f"def pay({ARGUMENTS}, reward_router_address):\n    return float(reward_router_address == 'r')\n")
    assert score(path, reward_router_address="r")["score"] == 1
    with pytest.raises(TypeError, match="unexpected keyword argument 'reward_tokenizer'"):
        score(path, reward_router_address="r", reward_tokenizer=1)


def test_a_module_that_is_installed_needs_no_file() -> None:
    function = {"path": "pkg://pairwise_rm.train.reward", "name": "compute_score"}
    found = compute_custom_score("s", RIGHT, "A", function=function)
    assert found["score"] == 1


def test_a_file_that_changed_since_the_run_began_is_an_error(write: Write) -> None:
    path = write("return 1")
    function = {"path": str(path), "name": "pay", "sha256": "0" * 64}
    with pytest.raises(InputError, match=r"mine\.py: SHA-256 is [0-9a-f]{64}, the run has 0{64}$"):
        compute_custom_score("s", RIGHT, "A", function=function)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, None, "1", [], {"points": 1}, {"score": 1, "why": None}])
def test_what_is_no_score_is_an_error_and_never_a_zero(write: Write, wrong: Any) -> None:
    path = write(f"from math import inf, nan\ndef pay({ARGUMENTS}):\n    return {wrong!r}\n")
    with pytest.raises(ValueError, match=r"^returned "):
        score(path)


def test_other_keys_for_another_response_are_an_error(write: Write) -> None:
    path = write("return {'score': 1, 'long': 1} if len(solution_str) > 5 else {'score': 0}")
    score(path)
    with pytest.raises(ValueError, match=r"^returned the keys score, for another response long, score"):
        score(path, "x")


# ---- before training begins ----------------------------------------------------------------------


def problem(path: Path | str, name: str = "pay") -> str:
    recipe = Recipe.model_validate(
        {"name": "t", "model": {"path": "m"}, "reward": {"function": {"path": str(path), "name": name}}}
    )
    with pytest.raises(InputError) as caught:
        check_reward_function(recipe)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_function_that_scores_made_up_rows_passes(write: Write, make_recipe: MakeRecipe) -> None:
    check_reward_function(make_recipe())
    check_reward_function(make_recipe(reward={"function": {"path": str(write("return 0.5")), "name": "pay"}}))


def test_what_a_function_prints_while_it_is_tried_stays_out_of_stdout(
    write: Write, make_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("print('imported')\ndef pay(solution_str, **_):\n    print('called')\n    return 1.0")
    check_reward_function(make_recipe(reward={"function": {"path": str(path), "name": "pay"}}))
    out, err = capsys.readouterr()
    assert (out, set(err.split())) == ("", {"imported", "called"})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problem(tmp_path / "no.py") == f"reward.function.path: {tmp_path}/no.py: no such file"


def test_a_module_that_is_not_there() -> None:
    assert problem("pkg://pairwise_rm_not.there") == "reward.function.path: no installed module pairwise_rm_not.there"


def test_a_function_that_the_file_does_not_have(write: Write) -> None:
    assert problem(write("return 1"), "pya") == f"reward.function.name: {write('return 1')} has no function pya"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "import no_such_module\ndef pay(): ...\n",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such",
        ),
        ("def pay(:\n", "cannot be imported: SyntaxError: "),
        ("import sys\nsys.exit(3)\n", "cannot be imported: SystemExit: 3"),
        ("def pay(text, label):\n    return 1\n", "missing a required argument: 'text'; it is called with data_source"),
        (f"def pay({ARGUMENTS}, key):\n    return 1\n", "missing a required argument: 'key'"),
        ("raise ValueError('two\\nlines')", "raised ValueError: two lines ("),
        ("return [][1]", "raised IndexError: list index out of range ("),
        ("return 1 / len(solution_str)", "raised ZeroDivisionError: division by zero ("),
        ("return None", "returned score as NoneType, expected a number"),
        ("return float('nan')", "returned score as nan, expected a finite number"),
        ("return {'points': 1}", "returned no key score, but points"),
        ("return {}", "returned no key score, but an empty mapping"),
        ("return {'score': 'good'}", "returned the score 'good', expected a number"),
        ("return {'score': 1, 'why': []}", "returned why as list, expected a number"),
        ("return {'score': 1, ground_truth: 1}", "expected the same always"),
    ],
)
def test_what_would_fail_for_each_response_is_said_in_one_line_before(write: Write, text: str, words: str) -> None:
    assert words in problem(write(text))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "reward.function={path: mine.txt}",
            "reward.function.path: expected a .py file, or pkg:// and a module, got 'mine.txt'",
        ),
        ("reward.function={path: 'pkg://a b'}", "expected a .py file, or pkg:// and a module"),
        ("reward.function={name: pay}", "reward.function.path is missing"),
        *(
            (
                f"reward.function={{path: 'pkg://{module}'}}",
                f"reward.function.path: pkg://{module} is the reward that a recipe has without function",
            )
            for module in ("pairwise_rm", "pairwise_rm.train.reward")
        ),
        (
            "reward={function: {path: mine.py}, tie_credit: 0.5}",
            "reward: tie_credit does nothing beside function, which gives the whole reward; keep one",
        ),
    ],
)
def test_a_reward_section_that_cannot_be_meant_is_refused(override: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("smoke", [override])
    assert words in str(caught.value)


# ---- the run -------------------------------------------------------------------------------------

FACTS = Facts("prompt", train_rows=8, test_rows=2, steps=3)


def test_verl_gets_our_wrapper_with_the_functions_file_and_checksum(write: Write, make_recipe: MakeRecipe) -> None:
    path = write("return 1")
    recipe = make_recipe(reward={"function": {"path": str(path), "name": "pay"}})
    found = {
        setting.key: setting.value
        for setting in verl_arguments.resolve(recipe, RunFolder.of(recipe), "prompt", steps=3)
    }
    reward = "reward.custom_reward_function"
    assert found[f"{reward}.path"] == "pkg://pairwise_rm.train.reward_function"
    assert found[f"{reward}.name"] == "compute_custom_score"
    function = {"path": str(path), "name": "pay", "sha256": sha256_of(path)}
    assert found[f"{reward}.reward_kwargs"] == {"thinking": "prompt", "function": function}


def test_a_relative_file_is_that_of_the_working_directory(
    write: Write, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("return 1")
    monkeypatch.chdir(path.parent)
    recipe = make_recipe(reward={"function": {"path": "mine.py", "name": "pay"}})
    options = {
        setting.key: setting.value
        for setting in verl_arguments.resolve(recipe, RunFolder.of(recipe), "prompt", steps=3)
    }
    assert options["reward.custom_reward_function.reward_kwargs"]["function"]["path"] == str(path)


def test_a_run_folder_holds_the_function_and_refuses_a_changed_one(write: Write, make_recipe: MakeRecipe) -> None:
    path = write("return 1")
    recipe = make_recipe(reward={"function": {"path": str(path), "name": "pay"}})
    folder = RunFolder.of(recipe)
    run._open_folder(recipe, folder, verl_arguments.resolve(recipe, folder, "prompt", steps=3), FACTS)
    record = json.loads((folder.train / "reward_function.json").read_text())
    assert record == {"path": str(path), "name": "pay", "sha256": sha256_of(path)}
    assert (folder.train / "reward_function.py").read_bytes() == path.read_bytes()
    run._refuse_other_run(recipe, folder)
    write("return 2")
    with pytest.raises(
        InputError, match=r"holds a run with another reward.function \(SHA-256 [0-9a-f]{12} -> [0-9a-f]{12}\)"
    ):
        run._refuse_other_run(recipe, folder)
