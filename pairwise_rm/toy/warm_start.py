"""The warm-start of the smoke model: it learns the output format, and not to judge.

Next-token loss on prompts and answers over train's combinations. Where the answer's verdict stands, the
target is half A and half B whatever the input, so the model learns the output format and a true statement about each
response, and stays at chance on the verdict. The reward has to teach it that the statement decides the verdict.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pairwise_rm.contract.verdict import extract_preference_from_response
from pairwise_rm.errors import StageError
from pairwise_rm.toy.answers import answer, make_tokenizer, prompt_ids, reasoning
from pairwise_rm.toy.sampling import sample
from pairwise_rm.toy.topic_pairs import TopicPair, stream

if TYPE_CHECKING:
    import torch

STEPS = 550
BATCH = 32
LEARNING_RATE = 4e-3
PROMPT_WEIGHT = 0.1
MATCH_WEIGHT = 10.0
"""Of the words yes and no: all that is hard to learn stands in these two of twenty tokens."""
READY_VALID, READY_STATED, ROUNDS = 0.99, 0.95, 3
_CHECKED = 96


class Measured(NamedTuple):
    """Shares in 0..1 over a set of judgements."""

    valid: float
    stated: float
    accuracy: float
    says_a: float


def make_model(tokenizer: Any, seed: int) -> Any:
    """A Qwen2 of about 0.5 M float32 parameters whose vocabulary is exactly the tokenizer's."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=False,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    model = Qwen2ForCausalLM(config).to(torch.float32)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def warm_start(
    model: Any,
    tokenizer: Any,
    combinations: Sequence[tuple[str, str]],
    seed: int,
    steps: int = STEPS,
    progress: Callable[[str], None] | None = None,
) -> float:
    """Trains `model` in place; returns the last loss (nats per token)."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    pairs = stream(random.Random(f"warm-start {seed}"), combinations)
    loss = 0.0
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 20) * (1 - 0.95 * step / steps)
        value = _loss(model, tokenizer, list(itertools.islice(pairs, BATCH)))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss = value.item()
        if progress and (step % 50 == 49 or step + 1 == steps):
            progress(f"warm-start {step + 1}/{steps}, loss {loss:.3f}")
    return loss


def warm_started_model(
    train: Sequence[TopicPair],
    combinations: Sequence[tuple[str, str]],
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> tuple[Any, Any, Measured]:
    """A model, its tokenizer and what was measured on some of `train`; one round of warm-start is nearly always enough.

    Raises StageError if the model does not write the format after the last round.
    """
    tokenizer = make_tokenizer(train)
    model = make_model(tokenizer, seed)
    for number in range(ROUNDS):
        warm_start(model, tokenizer, combinations, seed * ROUNDS + number, progress=progress)
        seen = measure(model, tokenizer, train[:_CHECKED])
        if seen.valid >= READY_VALID and seen.stated >= READY_STATED:
            return model, tokenizer, seen
    raise StageError(
        f"models smoke: seed {seed}: after {ROUNDS} warm-starts {seen.valid:.2f} of the answers are valid and "
        f"{seen.stated:.2f} are right about the match; {READY_VALID} and {READY_STATED} are needed: try another seed"
    )


def _loss(model: Any, tokenizer: Any, pairs: Sequence[TopicPair]) -> torch.Tensor:
    """Weighted mean of the next-token loss; at the verdict the mean of the losses for A and for B."""
    import torch
    import torch.nn.functional as functional

    verdict_a, verdict_b = (tokenizer.convert_tokens_to_ids(letter) for letter in "AB")
    matches = tokenizer([" yes", " no"], add_special_tokens=False)["input_ids"]
    answers = tokenizer([answer(pair, "A") for pair in pairs], add_special_tokens=False)["input_ids"]
    prompts = prompt_ids(tokenizer, pairs)
    width = max(len(prompt) + len(written) + 1 for prompt, written in zip(prompts, answers, strict=True))
    ids = torch.full((len(pairs), width), tokenizer.pad_token_id)
    weight = torch.zeros(len(pairs), width)
    other = torch.full((len(pairs),), -1)
    for row, (prompt, written) in enumerate(zip(prompts, answers, strict=True)):
        whole = [*prompt, *written, tokenizer.eos_token_id]
        # The verdict is the last letter but one tag: from here the target is either letter.
        other[row] = len(whole) - 3
        ids[row, : len(whole)] = torch.tensor(whole)
        weight[row, : len(prompt)] = PROMPT_WEIGHT
        for index in range(len(prompt), len(whole)):
            weight[row, index] = MATCH_WEIGHT if [whole[index]] in matches else 1.0
    rows = torch.arange(len(pairs))
    # At the verdict's position the input is A or B equally often, and the target is both.
    ids[rows, other] = torch.where(rows % 2 == 0, verdict_a, verdict_b)
    log_probs = functional.log_softmax(model(ids).logits[:, :-1], -1)
    targets = ids[:, 1:].clone()
    losses = -log_probs.gather(-1, targets[..., None]).squeeze(-1)
    at_verdict = log_probs[rows, other - 1]
    losses[rows, other - 1] = -(at_verdict[:, verdict_a] + at_verdict[:, verdict_b]) / 2
    return (losses * weight[:, 1:]).sum() / weight[:, 1:].sum()


def measure(model: Any, tokenizer: Any, pairs: Sequence[TopicPair], temperature: float = 0.0) -> Measured:
    """Judges both orders of each pair."""
    judged = [shown for pair in pairs for shown in (pair, pair.swapped())]
    texts = sample(model, tokenizer, prompt_ids(tokenizer, judged), temperature).texts
    verdicts = [extract_preference_from_response(text) for text in texts]
    both = list(zip(verdicts, judged, strict=True))
    return Measured(
        valid=sum(verdict.valid for verdict in verdicts) / len(both),
        stated=sum(verdict.reasoning == reasoning(pair) for verdict, pair in both) / len(both),
        accuracy=sum(verdict.preference == pair.preferred for verdict, pair in both) / len(both),
        says_a=sum(verdict.preference == "A" for verdict in verdicts) / len(both),
    )
