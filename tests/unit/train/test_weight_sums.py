"""Sums over the bits of weights: the same for the same weights, however they are sharded, and for no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from pairwise_rm.errors import StageError
from pairwise_rm.train import weight_sums
from pairwise_rm.train.weight_sums import Sums, added_up, compare, is_compared, plain_name, shards, sums_of

NAME = "model.layers.0.self_attn.o_proj.weight"
Rank = dict[str, tuple[str, Sequence[int]]]


def sums(tensor: torch.Tensor, dtype: str = "bfloat16") -> Sums:
    return sums_of([(NAME, tensor, dtype)])[NAME]


def rank(tensor: torch.Tensor, name: str = NAME) -> Rank:
    return {name: ("bfloat16", list(sums(tensor)))}


@pytest.fixture
def weight() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(12, 10)


# ---- the sums ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("dim", [0, 1])
def test_the_sums_of_the_shards_add_up_to_those_of_the_whole(weight: torch.Tensor, dtype: str, dim: int) -> None:
    parts = [sums(shard, dtype) for shard in weight.split(5, dim)]
    assert len(parts) > 1
    assert added_up({NAME: part} for part in parts)[NAME] == sums(weight, dtype)


def test_the_sums_are_of_the_bits_after_the_cast() -> None:
    one = torch.tensor([1.0, 1.0 + 2**-20])
    assert sums(one, "bfloat16") == Sums(2, 2 * 0x3F80, 2 * 0x3F80**2)
    assert sums(one, "float32").total == 2 * 0x3F800000 + 8


def test_one_weight_that_is_one_step_of_bfloat16_off_shows(weight: torch.Tensor) -> None:
    cast = weight.to(torch.bfloat16)
    other = cast.clone()
    other.view(torch.int16)[3, 4] += 1
    assert sums(other) != sums(cast)


def test_changes_that_cancel_out_in_the_sum_show_in_the_squares(weight: torch.Tensor) -> None:
    cast = weight.to(torch.bfloat16)
    other = cast.clone()
    other.view(torch.int16)[3, 4] += 1
    other.view(torch.int16)[5, 6] -= 1
    assert sums(other).total == sums(cast).total
    assert sums(other) != sums(cast)


def test_a_tensor_larger_than_a_chunk_has_the_sums_of_its_chunks(
    weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sums(weight, "float32")
    monkeypatch.setitem(weight_sums._CHUNKS, "cpu", 7)
    assert sums(weight, "float32") == whole


def test_sums_beyond_64_bits_wrap_alike_in_torch_and_here() -> None:
    large = torch.full((3, 4), 3e38)
    assert added_up({NAME: sums(row, "float32")} for row in large)[NAME] == sums(large, "float32")
    assert 12 * 0x7F61B1E6**2 >= 1 << 63, "the squares do not fit"


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (NAME, NAME),
        ("model.layers.0.self_attn.o_proj.base_layer.weight", NAME),
        ("base_model.model.model.layers.0.self_attn.o_proj.base_layer.weight", NAME),
        (
            "base_model.model.model.layers.0.self_attn.o_proj.lora_B.default.weight",
            "model.layers.0.self_attn.o_proj.lora_B.weight",
        ),
    ],
)
def test_names_are_those_of_the_models_files(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_what_vllm_pads_or_quantizes_is_not_asked_for() -> None:
    assert is_compared(NAME, torch.bfloat16)
    assert not is_compared("model.embed_tokens.weight", torch.bfloat16)
    assert not is_compared("lm_head.weight", torch.float32)
    assert not is_compared(NAME, torch.float8_e4m3fn)


# ---- the comparison ------------------------------------------------------------------------------


def test_equal_weights_pass_whole_in_each_rank_or_in_shards_of_them(weight: torch.Tensor) -> None:
    trainer = {NAME: sums(weight), "model.norm.weight": sums(weight[0])}
    ranks = [{**rank(shard), **rank(weight[0], "model.norm.weight")} for shard in weight.split(5, 1)]
    assert compare(3, trainer, [ranks, ranks]) == 2
    assert compare(3, trainer, [[rank(weight)]]) == 1


def test_a_replica_with_other_weights_is_named_with_the_sums(weight: torch.Tensor) -> None:
    stale = weight + 1
    with pytest.raises(StageError, match="step 3: after the weight sync vLLM replica 1 has the sums") as caught:
        compare(3, {NAME: sums(weight)}, [[rank(weight)], [rank(stale)]])
    said = str(caught.value)
    assert f"of {NAME}, the trainer has the sums {sums(weight).total:x}" in said
    assert "(1 of 1 parameters differ)" in said
    assert "other weights than the trainer's" in said
    assert "\n" not in said


def test_one_rank_with_another_copy_is_named(weight: torch.Tensor) -> None:
    with pytest.raises(StageError, match="vLLM replica 0, rank 1, has the sums"):
        compare(3, {NAME: sums(weight)}, [[rank(weight), rank(weight + 1)]])


def test_shards_that_do_not_add_up_are_named_together(weight: torch.Tensor) -> None:
    first, second = weight.split(6)
    with pytest.raises(StageError, match="vLLM replica 0, ranks 0 to 1, has the sums"):
        compare(3, {NAME: sums(weight)}, [[rank(first), rank(second + 1)]])


def test_a_parameter_that_vllm_dropped_is_another_weight(weight: torch.Tensor) -> None:
    with pytest.raises(StageError, match="vLLM replica 0 has no weights of"):
        compare(3, {NAME: sums(weight)}, [[rank(torch.empty(0))]])


def test_parameters_of_another_size_or_name_are_not_compared(weight: torch.Tensor) -> None:
    assert compare(3, {NAME: sums(weight)}, [[rank(weight[:7]), rank(weight[:7])]]) == 0
    assert compare(3, {NAME: sums(weight)}, [[rank(weight, "another.weight")]]) == 0


def test_layers_that_only_some_ranks_have_are_compared_there(weight: torch.Tensor) -> None:
    other = "model.layers.1.self_attn.o_proj.weight"
    trainer = {NAME: sums(weight), other: sums(weight + 1)}
    assert compare(3, trainer, [[rank(weight), rank(weight + 1, other)]]) == 2


# ---- the trainer's shards ------------------------------------------------------------------------


def test_an_adapters_b_has_the_scaling_that_vllm_multiplies_it_by() -> None:
    weight, b = nn.Linear(4, 4, bias=False), nn.Linear(2, 4, bias=False)
    layer = nn.ModuleDict({"base_layer": weight, "lora_B": nn.ModuleDict({"default": b})})  # as PEFT leaves it
    layer.scaling = {"default": 1.7}
    model = nn.ModuleDict({"o_proj": layer})
    found = sums_of(shards(model, {"o_proj.weight": "bfloat16", "o_proj.lora_B.weight": "bfloat16"}, first=True))
    assert found["o_proj.lora_B.weight"] == sums(b.weight.detach().to(torch.bfloat16) * 1.7)
    assert found["o_proj.weight"] == sums(weight.weight)


def test_a_parameter_that_each_rank_has_whole_is_added_by_the_first_alone() -> None:
    model = nn.ModuleDict({"o_proj": nn.Linear(4, 4, bias=False)})
    assert list(shards(model, {"o_proj.weight": "float32"}, first=False)) == []
    ((name, _, dtype),) = shards(model, {"o_proj.weight": "float32"}, first=True)
    assert (name, dtype) == ("o_proj.weight", "float32")


def test_the_shards_of_fsdp2_add_up_to_the_whole_model_also_where_half_of_the_ranks_are_copies(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_sum_shards, (str(tmp_path),), nprocs=4)
    whole = sums_of((name, parameter, "bfloat16") for name, parameter in _model().named_parameters())
    ranks = [torch.load(path, weights_only=True) for path in sorted(tmp_path.glob("*.pt"))]
    assert len(ranks) == 4
    assert added_up(sharded for sharded, _ in ranks) == whole
    assert added_up(with_copies for _, with_copies in ranks) == whole


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3))


def _sum_shards(number: int, folder: str) -> None:
    from torch.distributed import destroy_process_group, init_process_group
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=number, world_size=4)
    names = {name: "bfloat16" for name, _ in _model().named_parameters()}
    found = []
    for mesh in (
        init_device_mesh("cpu", (4,)),
        init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards")),
    ):
        model = fully_shard(_model(), mesh=mesh)
        found.append({name: list(part) for name, part in sums_of(shards(model, names, first=number == 0)).items()})
    torch.save(tuple(found), f"{folder}/{number}.pt")
    destroy_process_group()
