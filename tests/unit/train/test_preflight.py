"""Preflight: one test a check, and each message has the number wanted and the number there."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pairwise_rm.errors import InputError, StageError
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import preflight as checks
from pairwise_rm.train.preflight import Facts, check_cluster, parameter_count, preflight, ray_cpus_needed
from pairwise_rm.train.verl_settings import settings
from tests.model_files import safetensors
from tests.unit.conftest import MakeRecipe, MakeRows, WriteRows
from tests.unit.processes import linux

# Looked for, not imported: preflight itself does no more.
MISSING = [
    name for name in ("transformers", "pyarrow", "verl", "vllm", "ray") if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")


@pytest.fixture
def model(tmp_path: Path, tokenizer: Any) -> Path:
    """A folder with a real tokenizer and a real safetensors header, and as good as no weights."""
    folder = tmp_path / "model"
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 4, "max_position_embeddings": 8192}))
    (folder / "model.safetensors").write_bytes(safetensors(3, 2))
    return folder


@pytest.fixture
def ready(
    model: Path,
    make_recipe: MakeRecipe,
    make_rows: MakeRows,
    write_rows: WriteRows,
    monkeypatch: pytest.MonkeyPatch,
) -> MakeRecipe:
    """The smallest recipe that passes, with its model and its data in place."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # The machine that runs the tests is no part of them.
    monkeypatch.setattr(checks, "_available_memory", lambda: 64 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(1 << 40, 0, 1 << 40))
    folder = RunFolder.of(make_recipe())
    write_rows(folder.train_file, make_rows(4))
    write_rows(folder.test_file, make_rows(1))
    return make_recipe


def problem(recipe: Recipe) -> str:
    with pytest.raises(InputError) as caught:
        preflight(recipe, RunFolder.of(recipe))
    return str(caught.value)


def test_what_can_run_passes_and_tells_what_training_needs(ready: MakeRecipe) -> None:
    recipe = ready(train={"epochs": 3})
    assert preflight(recipe, RunFolder.of(recipe)) == Facts("response", train_rows=8, test_rows=2, steps=6)


@pytest.mark.parametrize(("epochs", "steps", "done"), [(3, 5, 5), (1, 5, 2)])
def test_steps_may_be_fewer_than_the_epochs_have_and_are_never_more(
    ready: MakeRecipe, epochs: int, steps: int, done: int
) -> None:
    recipe = ready(train={"epochs": epochs, "steps": steps})
    assert preflight(recipe, RunFolder.of(recipe)).steps == done


def test_steps_that_the_data_do_not_give_are_a_warning_with_both_numbers(ready: MakeRecipe) -> None:
    recipe = ready(train={"epochs": 3, "steps": 50})
    warning = preflight(recipe, RunFolder.of(recipe)).warning
    assert warning is not None
    assert warning.startswith("train.steps: 50 wanted, and 3 epochs of the data give 6; training ends after step 6")
    enough = ready(train={"epochs": 3, "steps": 6})
    assert preflight(enough, RunFolder.of(enough)).warning is None


def test_a_batch_may_be_all_rows_that_fit(ready: MakeRecipe) -> None:
    recipe = ready(train={"batch_size": 8, "epochs": 1})
    assert preflight(recipe, RunFolder.of(recipe)).steps == 1


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"batch_size": 5}, "train.batch_size: must be a multiple of train.mini_batch_size 2, got 5"),
        (
            {"gpus_per_node": 3, "batch_size": 6, "mini_batch_size": 2},
            "train.mini_batch_size: 2 x 4 rollouts = 8 samples, must be a multiple of 3 GPUs",
        ),
        (
            {"gpus_per_node": 16},
            "train.mini_batch_size: 2 x 4 rollouts = 8 samples, must be a multiple of 16 GPUs",
        ),
        (
            {"micro_batch_size_per_gpu": 3},
            "train.micro_batch_size_per_gpu: must divide the 8 samples that a GPU has of a mini-batch, got 3",
        ),
        (
            {"log_prob_micro_batch_size_per_gpu": 5},
            "train.log_prob_micro_batch_size_per_gpu: must divide the 16 samples of a GPU, got 5",
        ),
        ({"batch_size": 12, "mini_batch_size": 4}, "train.batch_size: 12 wanted, the file has 8 rows that fit"),
    ],
)
def test_batches_divide_as_verl_wants(ready: MakeRecipe, train: dict[str, int], words: str) -> None:
    assert words in problem(ready(train=train)).splitlines()


def test_tensor_parallel_divides_the_gpus_and_the_attention_heads(ready: MakeRecipe) -> None:
    found = problem(ready(device="cuda", train={"tensor_parallel": 3, "gpus_per_node": 4}))
    assert "train.tensor_parallel: 3 must divide the 4 GPUs (nodes x gpus_per_node)" in found.splitlines()
    assert "train.tensor_parallel: 3 must divide the model's 4 attention heads" in found.splitlines()


def test_the_prompt_and_the_response_fit_into_the_models_window(ready: MakeRecipe) -> None:
    found = problem(ready(prompt={"max_prompt_length": 8000, "max_response_length": 200}))
    assert found == "prompt: 8200 tokens of prompt and response wanted, the model has 8192 positions"


def change_config(model: Path, config: dict[str, Any]) -> None:
    (model / "config.json").write_text(json.dumps(config))


def test_a_model_that_sees_too_is_held_to_what_its_language_model_has(ready: MakeRecipe, model: Path) -> None:
    text = {"num_attention_heads": 3, "max_position_embeddings": 700}
    change_config(model, {"num_attention_heads": 4, "max_position_embeddings": 8192, "text_config": text})
    sections = {"train": {"tensor_parallel": 2, "gpus_per_node": 2}, "prompt": {"max_response_length": 200}}
    found = problem(ready(device="cuda", **sections)).splitlines()
    assert "train.tensor_parallel: 2 must divide the model's 3 attention heads" in found
    assert any(line.endswith("tokens of prompt and response wanted, the model has 700 positions") for line in found)


def test_a_model_that_says_nothing_of_heads_and_positions_is_not_held_to_them(ready: MakeRecipe, model: Path) -> None:
    change_config(model, {})
    recipe = ready(prompt={"max_prompt_length": 80_000})
    assert preflight(recipe, RunFolder.of(recipe)).train_rows == 8


def test_a_dataset_without_a_usable_row_is_refused(ready: MakeRecipe, write_rows: WriteRows) -> None:
    recipe = ready()
    write_rows(RunFolder.of(recipe).train_file, [])
    assert "preference_train.parquet: holds no rows (`split: test` and" in problem(recipe)


def test_pairs_without_held_out_rows_train_where_nothing_is_validated(ready: MakeRecipe, write_rows: WriteRows) -> None:
    recipe = ready(train={"validate_every": 20})
    folder = RunFolder.of(recipe)
    write_rows(folder.test_file, [])
    assert "preference_test.parquet: holds no rows (`split: test` and" in problem(recipe)
    unvalidated = ready(train={"validate_every": None})
    write_rows(folder.test_file, [])
    assert preflight(unvalidated, folder).test_rows == 0
    held = {setting.key: setting.value for setting in settings(unvalidated, folder, "response")}
    assert held["data.val_files"] == [str(folder.train_file)]


def test_data_that_was_not_converted_is_refused(ready: MakeRecipe) -> None:
    recipe = ready()
    RunFolder.of(recipe).test_file.unlink()
    assert "preference_test.parquet: no such file; `pairwise-rm convert` writes it" in problem(recipe)


def test_prompts_that_never_fit_are_refused_before_anything_starts(ready: MakeRecipe) -> None:
    found = problem(ready(prompt={"max_prompt_length": 40}))
    assert found == "prompt.max_prompt_length: none of the 8 rows fits into 40 tokens"


def test_rows_without_strength_cannot_be_weighted_by_it(
    ready: MakeRecipe, make_rows: MakeRows, write_rows: WriteRows
) -> None:
    recipe = ready(reward={"weight_by_strength": True})
    write_rows(RunFolder.of(recipe).train_file, [*make_rows(3), *make_rows(1, strength=None)])
    assert problem(recipe) == "reward.weight_by_strength: 2 of 8 rows have no strength"
    unweighted = ready()
    assert preflight(unweighted, RunFolder.of(unweighted)).train_rows == 8


def test_a_model_that_is_not_there_is_named(ready: MakeRecipe, tmp_path: Path) -> None:
    assert "no such model folder" in problem(ready(model={"path": str(tmp_path / "none")}))


def test_a_model_without_a_tokenizer_is_named(ready: MakeRecipe, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert f"{model}: no tokenizer; expected one of tokenizer.json" in problem(ready())


def test_weights_that_were_cut_short_are_one_line(ready: MakeRecipe, model: Path) -> None:
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:30])
    found = problem(ready())
    assert "the copy was cut short" in found
    assert "\n" not in found


def test_a_tokenizer_that_swallows_the_format_is_refused(ready: MakeRecipe, model: Path) -> None:
    text = (model / "tokenizer.json").read_text()
    table = json.loads(text)
    for token in table["added_tokens"]:
        token["special"] = True
    (model / "tokenizer.json").write_text(json.dumps(table))
    settings = json.loads((model / "tokenizer_config.json").read_text())
    for entry in settings.get("added_tokens_decoder", {}).values():
        entry["special"] = True
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "the judge's format must survive it" in problem(ready())


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_the_disk_has_room_for_the_checkpoints(ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    # The seam: a disk with 1 GiB free, and a model of 125 M weights.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(1 << 40, 0, 1 << 30))
    monkeypatch.setattr(checks, "parameter_count", lambda _: 125_000_000)
    recipe = ready(train={"keep_checkpoints": 2})
    assert problem(recipe) == f"{RunFolder.of(recipe).root}: 4.2 GiB wanted for 3 checkpoints, 1.0 GiB free"


def test_checkpoints_that_are_there_need_no_room_but_the_next_one_does(
    ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(1 << 40, 0, 1 << 30))
    monkeypatch.setattr(checks, "parameter_count", lambda _: 125_000_000)
    recipe = ready(train={"keep_checkpoints": 2})
    folder = RunFolder.of(recipe)
    for step in (1, 2, 3, 4):
        seal_of = folder.checkpoints / f"global_step_{step}" / "checkpoint.json"
        seal_of.parent.mkdir(parents=True)
        seal_of.write_text('{"files": {}}')
    assert problem(recipe) == f"{folder.root}: 1.4 GiB wanted for a checkpoint, 1.0 GiB free"
    left = folder.checkpoints / "global_step_5.unfinished"
    left.mkdir()
    with open(left / "weights", "wb") as weights:
        weights.truncate(1 << 30)  # takes no room
    assert preflight(recipe, folder).train_rows == 8


def test_of_an_adapter_the_disk_needs_a_tenth(ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(1 << 40, 0, 0))
    monkeypatch.setattr(checks, "parameter_count", lambda _: 1_250_000_000)
    monkeypatch.setattr(checks, "_available_memory", lambda: 64 << 30)
    recipe = ready(train={"keep_checkpoints": 2}, model={"lora": {"rank": 8}})
    assert f"{RunFolder.of(recipe).root}: 4.2 GiB wanted for 3 checkpoints, 0.0 GiB free" in problem(recipe)


def test_the_memory_suffices_for_a_run_on_the_cpu(ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_available_memory", lambda: 2 << 30)
    assert problem(ready()) == "memory: about 5.0 GiB wanted for a run on this CPU, 2.0 GiB available"
    monkeypatch.setattr(checks, "parameter_count", lambda _: 1 << 30)
    assert problem(ready()) == "memory: about 29.0 GiB wanted for a run on this CPU, 2.0 GiB available"


def test_the_memory_of_this_machine_says_nothing_of_a_cluster_or_of_gpus(
    ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_available_memory", lambda: 0)
    on_gpus = ready(device="cuda")
    assert preflight(on_gpus, RunFolder.of(on_gpus)).train_rows == 8
    monkeypatch.setenv("RAY_ADDRESS", "ray://nowhere")
    on_a_cluster = ready()
    assert preflight(on_a_cluster, RunFolder.of(on_a_cluster)).train_rows == 8


def test_where_the_memory_cannot_be_known_it_is_not_checked(ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_available_memory", lambda: None)
    recipe = ready()
    assert preflight(recipe, RunFolder.of(recipe)).train_rows == 8


@linux
def test_the_available_memory_is_in_bytes() -> None:
    psutil = pytest.importorskip("psutil")
    available = checks._available_memory()
    assert available is not None
    assert abs(available - psutil.virtual_memory().available) < 4 << 30


def test_weights_are_counted_from_the_headers(model: Path) -> None:
    (model / "model-2.safetensors").write_bytes(safetensors(5))
    metadata = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    (model / "model-3.safetensors").write_bytes(len(metadata).to_bytes(8, "little") + metadata)
    assert parameter_count(model) == 6 + 5


def test_the_wandb_logger_needs_a_key_or_offline_mode(ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    recipe = ready(train={"loggers": ["wandb"]})
    assert "train.loggers: wandb needs WANDB_API_KEY" in problem(recipe)
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_MODE", "disabled"), ("WANDB_API_KEY", "k")):
        with monkeypatch.context() as given:
            given.setenv(name, value)
            assert preflight(recipe, RunFolder.of(recipe)).train_rows == 8


def test_an_adapter_needs_peft_and_a_whole_model_does_not(ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
    adapted = ready(model={"lora": {"rank": 8}})
    assert "model.lora: needs the package peft, which is not installed" in problem(adapted)
    whole = ready()
    assert preflight(whole, RunFolder.of(whole)).train_rows == 8
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found(name) or found("json"))
    assert preflight(adapted, RunFolder.of(adapted)).train_rows == 8


def test_flash_attention_has_to_be_installed(ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    recipe = ready(device="cuda", model={"attention": "flash_attention_2"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "flash_attn" else there(name))
    assert "model.attention: flash_attention_2 needs the package flash-attn" in problem(recipe)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there("json" if name == "flash_attn" else name))
    assert preflight(recipe, RunFolder.of(recipe)).train_rows == 8


def test_an_extra_that_is_not_installed_is_one_line_before_any_other_check(
    ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one seam: an environment that lacks two packages.
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("verl", "ray") else found(name))
    recipe = ready(model={"path": "nobody/nothing"})
    with pytest.raises(StageError) as caught:
        preflight(recipe, RunFolder.of(recipe))
    assert str(caught.value) == "training needs verl, ray, not installed here; pip install 'pairwise-rm[cpu]'"


def test_every_failed_check_has_its_line(ready: MakeRecipe) -> None:
    found = problem(ready(train={"batch_size": 5, "micro_batch_size_per_gpu": 3}, model={"path": "./none"}))
    assert len(found.splitlines()) == 4


# ---- the Ray cluster -----------------------------------------------------------------------------


@pytest.mark.parametrize(("nodes", "gpus", "cpus"), [(1, 1, 3 + 2 + 3), (1, 8, 24 + 8 + 3), (2, 8, 48 + 8 + 3)])
def test_the_ray_cpus_are_three_a_gpu_one_a_storage_actor_and_three_more(
    make_recipe: MakeRecipe, nodes: int, gpus: int, cpus: int
) -> None:
    assert ray_cpus_needed(make_recipe(train={"nodes": nodes, "gpus_per_node": gpus})) == cpus


def test_too_few_ray_cpus_of_ones_own_are_refused(ready: MakeRecipe) -> None:
    with pytest.raises(InputError, match=r"train\.ray_cpus: 8 Ray CPUs wanted by verl, got 4"):
        check_cluster(ready(train={"ray_cpus": 4}))
    check_cluster(ready(train={"ray_cpus": 8}))
    check_cluster(ready())


def test_gpus_that_this_machine_does_not_have_are_refused(ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"train\.gpus_per_node: 8 GPUs wanted, this machine has 2"):
        check_cluster(ready(device="cuda", train={"gpus_per_node": 8}))
    check_cluster(ready(device="cuda", train={"gpus_per_node": 2}))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([{"GPU": 8, "CPU": 99}], "16 GPUs wanted, the Ray cluster has 8"),
        ([{"GPU": 4, "CPU": 99}] * 4, "2 Ray nodes with 8 GPUs wanted, the cluster has 0"),
        ([{"GPU": 8, "CPU": 8}] * 2, "Ray CPUs: 59 wanted by verl and its TransferQueue, the cluster has 16"),
        ([{"GPU": 8, "CPU": 29}] * 2, "Ray CPUs: 59 wanted by verl and its TransferQueue, the cluster has 58"),
        ([{"GPU": 8, "CPU": 30}, {"GPU": 8, "CPU": 29}], None),
        ([{"GPU": 8, "CPU": 30}, {"GPU": 8, "CPU": 29}, {"node:head": 1}], None),
    ],
)
def test_the_cluster_has_the_gpus_and_the_ray_cpus(
    ready: MakeRecipe, monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], words: str | None
) -> None:
    import ray

    @contextlib.contextmanager
    def session(*_: object, **__: object) -> Iterator[None]:
        yield

    # Replaces ray.nodes(): the cluster's nodes, dead ones included.
    said = [{"Resources": node, "Alive": True} for node in nodes]
    monkeypatch.setenv("RAY_ADDRESS", "ray://nowhere")
    monkeypatch.setattr(checks, "ray_session", session)
    monkeypatch.setattr(ray, "nodes", lambda: [*said, {"Resources": {"GPU": 8, "CPU": 99}, "Alive": False}])
    recipe = ready(device="cuda", train={"nodes": 2, "gpus_per_node": 8})
    if words is None:
        check_cluster(recipe)
        return
    with pytest.raises(InputError, match=words):
        check_cluster(recipe)
