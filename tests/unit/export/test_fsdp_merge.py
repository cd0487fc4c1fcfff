"""Merging real FSDP2 checkpoints: what comes out is what went in, whole, in the wanted dtype, LoRA added."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("transformers")

import torch
from safetensors.torch import load_file

from pairwise_rm.errors import InputError, StageError
from pairwise_rm.export import fsdp_merge
from pairwise_rm.export.fsdp_merge import INDEX, merge_weights, weight_bytes
from pairwise_rm.export.run import export
from tests.chaos.stages import on_small_volume, small_volumes_can_be_made
from tests.unit.conftest import MakeRecipe

# Two ranks of FSDP2 on CPUs, forked after the slow import; 7 and 5 rows do not divide by 2, and 1 row leaves a
# rank with none.
RANKS = """
import os, sys, torch
from torch.distributed.fsdp import fully_shard
folder, world = sys.argv[1], 2
store = f"{folder}/store"
child = os.fork()
rank = 0 if child else 1
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Embedding(7, 4), torch.nn.Linear(4, 5), torch.nn.Linear(5, 1))
model.register_buffer("steps", torch.arange(3))
if rank == 0:
    torch.save(model.state_dict(), f"{folder}/original.pt")
mesh = torch.distributed.init_device_mesh("cpu", (world,))
for part in model:
    fully_shard(part, mesh=mesh)
fully_shard(model, mesh=mesh)
torch.save(model.state_dict(), f"{folder}/actor/model_world_size_{world}_rank_{rank}.pt")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def frame(actor: Path, world: int, **config: Any) -> Path:
    (actor / "huggingface").mkdir(parents=True, exist_ok=True)
    (actor / "huggingface" / "config.json").write_text(json.dumps(config))
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": world}))
    return actor


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A checkpoint that FSDP2 wrote with two processes, and the weights it was made from."""
    folder = tmp_path_factory.mktemp("sharded")
    actor = frame(folder / "actor", 2)
    subprocess.run([sys.executable, "-c", RANKS, str(folder)], check=True, timeout=90)
    return actor, torch.load(folder / "original.pt")


def test_the_merged_weights_equal_the_original(sharded: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    actor, original = sharded
    written = merge_weights(actor, tmp_path, "float32", None)
    merged = load_file(tmp_path / "model.safetensors")
    assert set(merged) == set(original)
    assert all(torch.equal(merged[name], original[name]) for name in original)
    count = sum(tensor.numel() for tensor in original.values())
    assert (written["tensors"], written["parameters"]) == (len(original), count)
    assert not (tmp_path / INDEX).exists()


def test_the_wanted_dtype_is_written_and_whole_numbers_stay_whole(
    sharded: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    actor, original = sharded
    merge_weights(actor, tmp_path, "bfloat16", None)
    merged = load_file(tmp_path / "model.safetensors")
    assert merged["0.weight"].dtype == torch.bfloat16
    assert torch.equal(merged["0.weight"], original["0.weight"].bfloat16())
    assert torch.equal(merged["steps"], original["steps"])


def test_several_files_are_named_and_indexed_as_transformers_does(
    sharded: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor, original = sharded
    monkeypatch.setattr(fsdp_merge, "SHARD_BYTES", 100)
    written = merge_weights(actor, tmp_path, "float32", None)
    index = json.loads((tmp_path / INDEX).read_text())
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == [f"model-{number:05d}-of-{len(files):05d}.safetensors" for number in range(1, len(files) + 1)]
    assert len(files) > 1
    assert index["metadata"]["total_size"] == written["bytes"]
    found = {name: load_file(tmp_path / file)[name] for name, file in index["weight_map"].items()}
    assert set(found) == set(original)
    assert all(torch.equal(found[name], original[name]) for name in original)


def test_the_size_on_disk_counts_every_rank(sharded: tuple[Path, dict[str, Any]]) -> None:
    actor, _ = sharded
    files = list(actor.glob("model_world_size_*"))
    (actor / "optim_world_size_2_rank_0.pt").write_bytes(b"0" * 99)
    assert weight_bytes(actor) == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("cut", [0, 10, -10])
def test_a_rank_file_that_was_cut_short_is_one_line(tmp_path: Path, cut: int) -> None:
    actor = frame(tmp_path / "actor", 1)
    path = actor / "model_world_size_1_rank_0.pt"
    torch.save({"w": torch.ones(4)}, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StageError, match="actor: cut short: ") as caught:
        merge_weights(actor, tmp_path, "float32", None)
    assert "\n" not in str(caught.value)


def test_a_rank_file_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path / "ran").touch, ()

    actor = frame(tmp_path / "actor", 1)
    torch.save({"w": Runs()}, actor / "model_world_size_1_rank_0.pt")
    with pytest.raises(StageError, match="actor: holds something else than weights"):
        merge_weights(actor, tmp_path, "float32", None)
    assert not (tmp_path / "ran").exists()


def test_a_missing_rank_is_named(tmp_path: Path) -> None:
    actor = frame(tmp_path / "actor", 2)
    torch.save({"w": torch.ones(4)}, actor / "model_world_size_2_rank_0.pt")
    with pytest.raises(StageError, match=r"cut short: .*model_world_size_2_rank_1\.pt"):
        merge_weights(actor, tmp_path, "float32", None)


def test_ranks_that_disagree_on_an_unsharded_tensor_are_refused(tmp_path: Path) -> None:
    actor = frame(tmp_path / "actor", 2)
    for rank in (0, 1):
        torch.save({"w": torch.full((4,), rank)}, actor / f"model_world_size_2_rank_{rank}.pt")
    with pytest.raises(StageError, match="w differs between the ranks"):
        merge_weights(actor, tmp_path, "float32", None)


# ---- a real model, with and without an adapter ---------------------------------------------------


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of this process alone, which FSDP2 needs to shard."""
    store = tmp_path_factory.mktemp("store") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def qwen2(tied: bool) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    return Qwen2ForCausalLM(Qwen2Config(**shape, **heads, tie_word_embeddings=tied))


def save(model: Any, actor: Path, tied: bool) -> Path:
    from torch.distributed.fsdp import fully_shard

    frame(actor, 1, tie_word_embeddings=tied)
    mesh = torch.distributed.init_device_mesh("cpu", (1,))
    fully_shard(model, mesh=mesh)
    torch.save(model.state_dict(), actor / "model_world_size_1_rank_0.pt")
    return actor


@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_are_written_once(one_rank: None, tmp_path: Path, tied: bool) -> None:
    expected = {name: tensor.clone() for name, tensor in qwen2(tied).state_dict().items()}
    merge_weights(save(qwen2(tied), tmp_path / "actor", tied), tmp_path, "float32", None)
    merged = load_file(tmp_path / "model.safetensors")
    assert ("lm_head.weight" in merged) != tied
    assert set(merged) == set(expected) - ({"lm_head.weight"} if tied else set())
    assert all(torch.equal(merged[name], expected[name]) for name in merged)


@pytest.fixture
def adapted() -> Any:
    """A tiny Qwen2 with a LoRA adapter on every linear layer, neither half of it zero."""
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        qwen2(tied=False), peft.LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
    return model


def test_a_merged_adapter_equals_pefts_own_merge(one_rank: None, adapted: Any, tmp_path: Path) -> None:
    import copy

    expected = copy.deepcopy(adapted).merge_and_unload().state_dict()
    merge_weights(save(adapted, tmp_path / "actor", False), tmp_path, "float32", 6 / 4)
    merged = load_file(tmp_path / "model.safetensors")
    assert set(merged) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-5, atol=1e-6)
    base = qwen2(tied=False).state_dict()["model.layers.0.self_attn.q_proj.weight"]
    assert not torch.allclose(merged["model.layers.0.self_attn.q_proj.weight"], base)


def test_a_checkpoint_of_an_adapter_alone_is_refused(adapted: Any, tmp_path: Path) -> None:
    actor = frame(tmp_path / "actor", 1)
    alone = {name: tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
    torch.save(alone, actor / "model_world_size_1_rank_0.pt")
    with pytest.raises(StageError, match="holds an adapter alone"):
        merge_weights(actor, tmp_path, "float32", 1.5)


def test_a_layer_without_its_adapter_is_named(adapted: Any, tmp_path: Path) -> None:
    actor = frame(tmp_path / "actor", 1)
    state = {name: tensor for name, tensor in adapted.state_dict().items() if "0.self_attn.q_proj.lora_B" not in name}
    torch.save(state, actor / "model_world_size_1_rank_0.pt")
    with pytest.raises(StageError, match=r"q_proj\.base_layer\.weight has no LoRA adapter beside it"):
        merge_weights(actor, tmp_path, "float32", 1.5)


def test_an_export_onto_a_folder_of_the_users_is_refused_before_anything_is_merged(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    # No checkpoint is there: merging first would complain of that.
    with pytest.raises(InputError, match="mine: is there already and no export of pairwise-rm"):
        export(make_recipe(), out=tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


FULL = """
import errno, sys
from pathlib import Path
import torch
from pairwise_rm.atomic_io import atomic_folder
from pairwise_rm.errors import StageError
from pairwise_rm.export.fsdp_merge import merge_weights
volume, actor = map(Path, sys.argv[1:])
torch.save({"w": torch.zeros(1 << 20)}, actor / "model_world_size_1_rank_0.pt")
(volume / "merged").mkdir()
(volume / "merged" / "mine").write_text("old")
try:
    with atomic_folder(volume / "merged") as temporary:
        merge_weights(actor, temporary, "float32", None)
except StageError as error:
    print(error)
assert [path.name for path in volume.rglob("*")] == ["merged", "mine"], list(volume.rglob("*"))
"""


def test_a_full_volume_is_one_line_and_what_was_merged_before_stays(tmp_path: Path) -> None:
    if not small_volumes_can_be_made():
        pytest.skip("needs a file system of its own, as root")
    said = on_small_volume(FULL, "2m", str(frame(tmp_path, 1)))
    assert said.endswith("/merged: cannot be written: No space left on device\n")
    assert said.count("\n") == 1
