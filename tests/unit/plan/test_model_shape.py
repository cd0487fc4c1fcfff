"""Weights counted from a shape, against published numbers, transformers' own models and a real file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.errors import InputError
from pairwise_rm.plan.model_shape import ModelShape, known_models, shape_of
from pairwise_rm.recipe.load import load_recipe, shipped_recipes
from pairwise_rm.recipe.model import ModelConfig
from pairwise_rm.train.preflight import parameter_count
from tests.paths import REPO

SMALL: dict[str, Any] = {
    "model_type": "qwen3",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 96,
    "vocab_size": 100,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("name", known_models())
def test_the_weights_of_a_known_model_are_as_many_as_its_hub_page_says(name: str) -> None:
    config = known_models()[name]
    assert ModelShape.of_config(name, config).weights == config["weights"]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"tie_word_embeddings": True},
        {"model_type": "qwen2", "head_dim": 16},
        {"model_type": "llama"},
        {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
        {"model_type": "mistral"},
        {"attention_bias": True},
        {"num_key_value_heads": 4},
    ],
    ids=str,
)
def test_the_weights_are_those_of_the_model_that_transformers_makes(changed: dict[str, Any]) -> None:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    config = {**SMALL, **changed}
    options = {key: value for key, value in config.items() if key != "model_type"}
    made = transformers.AutoConfig.for_model(config["model_type"], **options)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made)
    shape = ModelShape.of_config("small", config)
    assert shape.weights == sum(weight.numel() for weight in model.parameters())
    assert sorted(shape.tensors()) == sorted(tuple(weight.shape) for weight in model.parameters())


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]], ids=str)
def test_the_adapters_are_those_that_peft_makes(targets: str | list[str]) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    options = {key: value for key, value in SMALL.items() if key != "model_type"}
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model("qwen3", **options))
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=targets))
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert ModelShape.of_config("small", SMALL).adapter_weights(8, targets) == trained


def test_the_weights_of_the_smoke_model_are_those_of_its_file() -> None:
    folder = REPO / "models" / "smoke"
    if not folder.exists():
        pytest.skip("needs models/smoke, which `pairwise-rm models smoke` makes")
    assert shape_of(ModelConfig(path=str(folder))).weights == parameter_count(folder)
    assert known_models()["smoke"]["weights"] == parameter_count(folder)


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_model_of_every_shipped_recipe_needs_no_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert shape_of(load_recipe(name).model).weights > 0


def test_a_folder_is_read_before_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "Qwen" / "Qwen3-8B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(SMALL))
    shape = shape_of(ModelConfig(path="Qwen/Qwen3-8B"))
    assert (shape.hidden, shape.source) == (64, "Qwen/Qwen3-8B/config.json")


def test_a_mixture_of_experts_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match=r"big: model_type 'qwen3_moe': plan knows the weights of qwen2, qwen3"):
        ModelShape.of_config("big", {**SMALL, "model_type": "qwen3_moe"})


def test_a_size_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=r"small: config\.json: 'hidden_size'"):
        ModelShape.of_config("small", {key: value for key, value in SMALL.items() if key != "hidden_size"})
