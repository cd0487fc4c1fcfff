"""What `serve` is given: a folder, and hardly anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import recipe_yaml
from pairwise_rm.serve.exported import Exported, ServeArguments
from tests.model_files import safetensors
from tests.unit.conftest import MakeRecipe


@pytest.fixture
def export(tmp_path: Path, make_recipe: MakeRecipe) -> Callable[..., Path]:
    """The smallest folder that passes for an exported judge."""

    def make(**sections: Any) -> Path:
        folder = tmp_path / "export"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(safetensors(1))
        for name in ("config.json", "tokenizer.json", "chat_template.jinja"):
            (folder / name).write_text("{}")
        (folder / "recipe.yaml").write_text(recipe_yaml(make_recipe(**sections)))
        return folder

    return make


def exported(folder: Path, **arguments: Any) -> Exported:
    return Exported.of(ServeArguments.of({"model": str(folder), **arguments}))


def test_the_folders_own_recipe_says_how_vllm_is_started(export: Callable[..., Path]) -> None:
    folder = export(prompt={"max_prompt_length": 100, "max_response_length": 20})
    flags = exported(folder).vllm_arguments("/s")
    assert " ".join(flags) == (
        f"--model {folder} --dtype float32 --tensor-parallel-size 1 --max-model-len 120 --seed 1 --enforce-eager "
        "--served-model-name t --uds /s --disable-uvicorn-access-log"
    )


def test_several_gpus_are_vllms_own_processes_and_not_rays(export: Callable[..., Path]) -> None:
    folder = export(device="cuda", evaluate={"tensor_parallel": 2})
    flags = " ".join(exported(folder).vllm_arguments("/s"))
    assert "--tensor-parallel-size 2" in flags
    assert "--distributed-executor-backend mp" in flags
    assert "--tensor-parallel-size 4" in " ".join(exported(folder, tensor_parallel=4).vllm_arguments("/s"))


def test_vllms_further_options_are_passed_on(export: Callable[..., Path]) -> None:
    options = {"max-num-seqs": 64, "enforce_eager": False, "compilation_config": {"level": 0}}
    flags = exported(export(), vllm=options).vllm_arguments("/s")
    assert "--enforce-eager" not in flags
    assert flags[-4:] == ["--max-num-seqs", "64", "--compilation-config", '{"level": 0}']


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "args.model: Field required"),
        ({"model": 3}, "args.model: Input should be a valid string"),
        ({"model": "x", "port": 1}, "args.port: unknown; known are model, export, tensor_parallel, vllm"),
        ({"model": "x", "tensor_parallel": 0}, "args.tensor_parallel: Input should be greater than or equal to 1"),
        ({"model": "x", "vllm": {"served-model-name": "y"}}, "args.vllm: served-model-name is set here already"),
        ({"model": "x", "vllm": {"trust-remote-code": True}}, "args.vllm: trust-remote-code is set here already"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        ServeArguments.of(arguments)
    assert str(caught.value).startswith(sentence)


def test_a_folder_without_a_recipe_is_no_exported_judge(export: Callable[..., Path]) -> None:
    folder = export()
    (folder / "recipe.yaml").unlink()
    with pytest.raises(InputError, match=r"no recipe\.yaml; `pairwise-rm export` writes it beside the weights"):
        exported(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model folder"):
        exported(tmp_path / "export")
