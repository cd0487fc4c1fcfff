"""Sampling from a small model in plain PyTorch: enough to measure the smoke model without vLLM.

Prompts are padded on the left, answers on the right; the answer ends with the end-of-sequence token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = 24


class Samples(NamedTuple):
    """Token ids and masks (int64; 1 where a token counts). Shapes: [rows, prompt] and [rows, answer]."""

    prompts: torch.Tensor
    prompt_mask: torch.Tensor
    answers: torch.Tensor
    answer_mask: torch.Tensor
    texts: list[str]


def sample(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], temperature: float, each: int = 1) -> Samples:
    """`each` answers per prompt, adjacent in the result; temperature 0 is greedy."""
    import torch

    with torch.no_grad():
        ids, mask = _left_padded(prompts, tokenizer.pad_token_id)
        ids, mask = ids.repeat_interleave(each, 0), mask.repeat_interleave(each, 0)
        answers, answer_mask = _continue(model, ids, mask, temperature, tokenizer)
    kept = [
        [token for token, counts in zip(row, row_mask, strict=True) if counts]
        for row, row_mask in zip(answers.tolist(), answer_mask.tolist(), strict=True)
    ]
    texts: list[str] = tokenizer.batch_decode(kept, skip_special_tokens=True)
    return Samples(ids, mask, answers, answer_mask, texts)


def _left_padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def _continue(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, temperature: float, tokenizer: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    model.eval()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    output = model(ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
    position = positions[:, -1:]
    done = torch.zeros(len(ids), dtype=torch.bool)
    tokens, counts = [], []
    for _ in range(MAX_NEW_TOKENS):
        logits = output.logits[:, -1]
        if temperature == 0:
            chosen = logits.argmax(-1)
        else:
            chosen = torch.multinomial(torch.softmax(logits / temperature, -1), 1).squeeze(1)
        chosen = torch.where(done, tokenizer.pad_token_id, chosen)
        tokens.append(chosen)
        counts.append(~done)
        done = done | (chosen == tokenizer.eos_token_id)
        if bool(done.all()):
            break
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        position = position + 1
        output = model(
            chosen[:, None],
            attention_mask=mask,
            position_ids=position,
            past_key_values=output.past_key_values,
            use_cache=True,
        )
    return torch.stack(tokens, 1), torch.stack(counts, 1).long()
