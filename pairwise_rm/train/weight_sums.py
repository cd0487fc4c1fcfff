"""Exact sums over the bits of named weights, and their comparison between the trainer and vLLM.

The bits of a weight are read as an integer, and the integers and their squares are added up modulo 2**64. Unlike a sum
of floats that depends neither on the order nor on how a parameter is sharded, so that the shards of FSDP on one side
and those of tensor parallelism on the other add up to the same two numbers exactly when the weights are the same: one
bfloat16 that is a single step off shows. A sum alone could miss changes that cancel out; the squares do not cancel too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pairwise_rm.errors import StageError

if TYPE_CHECKING:
    import torch

COMPARED = "training/weights_compared"
"""Metric: parameters that were compared after this step's weight sync."""

_CHUNKS = {"cpu": 1 << 16, "cuda": 1 << 22}
"""Weights at a time: what a core's cache holds; on a GPU 32 MiB as integers, since vLLM leaves little of its memory."""
_FLOATS = ("float32", "bfloat16", "float16")
_OTHER_SHAPE = ("embed", "lm_head")
"""In names of what is padded in vLLM, and is the largest tensor of all."""

_ADAPTER_B = ".lora_B."


class Sums(NamedTuple):
    """Of a parameter or of one shard: its number of weights, the sum of their bits, and that of the squares."""

    weights: int
    total: int
    squares: int

    def __add__(self, other: Sums) -> Sums:  # type: ignore[override]
        return Sums(
            self.weights + other.weights, _wrapped(self.total + other.total), _wrapped(self.squares + other.squares)
        )


NONE = Sums(0, 0, 0)
OfRank = Mapping[str, tuple[str, Sequence[int]]]
"""What one vLLM rank holds: name to dtype and sums."""


def is_compared(name: str, dtype: torch.dtype) -> bool:
    """Whether a parameter of vLLM is worth asking the trainer for."""
    return dtype_name(dtype) in _FLOATS and not any(part in name for part in _OTHER_SHAPE)


def plain_name(name: str) -> str:
    """A parameter's name as in the model's files, without what PEFT and vLLM put into it around an adapter."""
    return re.sub(r"\.base_layer\.|\.default\.", ".", name.removeprefix("base_model.model."))


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def sums_of(shards: Iterable[tuple[str, torch.Tensor, str]], device: object = None) -> dict[str, Sums]:
    """Sums of named tensors, each after a cast to the dtype that stands beside it.

    They are made on `device` (None: where a tensor is), a part at a time, and are waited for once at the end.
    """
    import torch

    names, weights, rows = [], [], []
    for name, tensor, dtype in shards:
        flat = tensor.detach().reshape(-1)
        row = torch.zeros(2, dtype=torch.int64, device=device or flat.device)
        on_cpu = row.device.type == "cpu"
        for chunk in flat.split(_CHUNKS["cpu" if on_cpu else "cuda"]) if flat.numel() else ():
            cast = chunk.to(device=row.device, dtype=getattr(torch, dtype))
            bits = cast.view(torch.int32 if dtype == "float32" else torch.int16).to(torch.int64)
            row[0] += bits.sum()
            # Four times as fast, and CUDA has it for floats only.
            row[1] += bits.dot(bits) if on_cpu else bits.square_().sum()
        names.append(name)
        weights.append(flat.numel())
        rows.append(row)
    if not rows:
        return {}
    found = torch.stack([row.to(rows[0].device) for row in rows]).tolist()
    return {
        name: Sums(number, total, squares) for name, number, (total, squares) in zip(names, weights, found, strict=True)
    }


def shards(model: torch.nn.Module, dtypes: Mapping[str, str], first: bool) -> Iterator[tuple[str, torch.Tensor, str]]:
    """What a rank of FSDP2 adds to the named parameters, as it will be loaded; `first`: whether it is rank 0."""
    import torch

    for name, parameter in model.named_parameters():
        plain = plain_name(name)
        if plain not in dtypes:
            continue
        shard = _shard(parameter, first)
        if shard is None:
            continue
        if _ADAPTER_B in name:
            # vLLM multiplies it by the adapter's scaling when it loads it.
            layer, _, rest = name.partition(_ADAPTER_B)
            scaling = model.get_submodule(layer).scaling[rest.partition(".")[0]]
            shard = shard.detach().to(getattr(torch, dtypes[plain])) * scaling
        yield plain, shard, dtypes[plain]


def _shard(parameter: torch.Tensor, first: bool) -> torch.Tensor | None:
    """What this rank alone adds; None for a copy of what another rank adds."""
    from torch.distributed.tensor import DTensor

    if not isinstance(parameter, DTensor):
        return parameter if first else None
    place: Any = parameter.device_mesh.get_coordinate()
    copy = any(at and placement.is_replicate() for at, placement in zip(place, parameter.placements, strict=True))
    return None if copy else parameter.to_local()


def added_up(ranks: Iterable[Mapping[str, Sequence[int]]]) -> dict[str, Sums]:
    """The sums of whole parameters from those of the ranks' shards."""
    found: dict[str, Sums] = {}
    for rank in ranks:
        for name, sums in rank.items():
            found[name] = found.get(name, NONE) + Sums(*sums)
    return found


def compare(step: int, trainer: Mapping[str, Sums], replicas: Sequence[Sequence[OfRank]]) -> int:
    """The number of parameters that are the same in the trainer and in every rank of every replica.

    A parameter counts where its size is the trainer's, in each rank that has it or in all ranks together. One that is
    empty in vLLM was dropped there, and cannot have been loaded. Raises StageError when one differs.
    """
    compared: set[str] = set()
    different: dict[str, str] = {}
    for number, ranks in enumerate(replicas):
        for name in dict.fromkeys(name for rank in ranks for name in rank):
            if name not in trainer:
                continue
            held = {rank: Sums(*sums[name][1]) for rank, sums in enumerate(ranks) if name in sums}
            found = _whole(held, trainer[name])
            if found is None:
                continue
            compared.add(name)
            for where, sums in found.items():
                if sums != trainer[name]:
                    different.setdefault(name, f"vLLM replica {number}{where} has {_shown(sums)}")
    if different:
        name = next(name for name in trainer if name in different)
        found_there, expected, number = different[name], _shown(trainer[name]), len(different)
        raise StageError(
            f"step {step}: after the weight sync {found_there} of {name}, the trainer has {expected} "
            f"({number} of {len(compared)} parameters differ): the rollouts would come from other weights "
            "than the trainer's; none was made from them"
        )
    return len(compared)


def _whole(held: Mapping[int, Sums], wanted: Sums) -> dict[str, Sums] | None:
    """Where a parameter is whole, and its sums there; None for one of another size, which vLLM pads or fuses."""
    sizes = [sums.weights for sums in held.values()]
    if all(size in (wanted.weights, 0) for size in sizes):
        return {f", rank {rank}," if len(held) > 1 else "": sums for rank, sums in held.items()}
    if sum(sizes) == wanted.weights:
        return {f", ranks {min(held)} to {max(held)},": added_up({"": sums} for sums in held.values())[""]}
    return None


def _shown(sums: Sums) -> str:
    return f"the sums {sums.total:x} and {sums.squares:x}" if sums.weights else "no weights"


def _wrapped(number: int) -> int:
    """Modulo 2**64, signed, as torch adds."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
