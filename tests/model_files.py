"""Files of a model folder, as small as they can be: weights of zeros, and a tokenizer of single bytes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def safetensors(*shape: int, data: bytes | None = None) -> bytes:
    """A safetensors file with one float32 tensor; `data` in place of its zeros."""
    size = 4 * math.prod(shape)
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + (bytes(size) if data is None else data)


def save_byte_tokenizer(folder: Path, chat_template: str, *, eos: str, **special: str) -> Any:
    """Writes a real tokenizer with a token for each byte, the special ones before them; gives it back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [eos, *special.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, **special)
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    return fast
