"""The prompts and answers of the smoke model: its template, its tokenizer, and what the warm-start trains it on.

The prompt goes through the same template and chat template as in training and evaluation. An answer names the topic
that was asked for and, for each response, its topic and whether it matches. Only the verdict tag says which response is
better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pairwise_rm.contract.prompt import OUR_TAGS, PairwiseComparisonTemplate
from pairwise_rm.contract.rows import Preference
from pairwise_rm.contract.verdict import THINK_CLOSE, THINK_OPEN, VERDICT_CLOSE, VERDICT_OPEN
from pairwise_rm.toy.topic_pairs import TopicPair

PROMPT_TEMPLATE = """\
Which response fits the query?
Query: {{ query }}
Response A: {{ response_a }}
Response B: {{ response_b }}"""
"""`prompt.template` of the smoke recipe."""

REASONING = "Asked: {wanted}. A: {a} {match_a}. B: {b} {match_b}."
_CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_PAD, _START, _END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_VOCABULARY = 576
_MAX_LENGTH = 512


def judge_template() -> PairwiseComparisonTemplate:
    return PairwiseComparisonTemplate(template=PROMPT_TEMPLATE, special_tokens=(_PAD, _START, _END))


def reasoning(pair: TopicPair) -> str:
    a, b = pair.topics
    match_a, match_b = ("yes" if topic == pair.wanted else "no" for topic in pair.topics)
    return REASONING.format(wanted=pair.wanted, a=a, b=b, match_a=match_a, match_b=match_b)


def answer(pair: TopicPair, verdict: Preference) -> str:
    """A whole answer in the output format, with the given verdict."""
    return f"{THINK_OPEN}{reasoning(pair)}{THINK_CLOSE}{VERDICT_OPEN}{verdict}{VERDICT_CLOSE}"


def prompt_ids(tokenizer: Any, pairs: Iterable[TopicPair]) -> list[list[int]]:
    """Token ids of each pair's whole prompt, up to where the judge starts to write."""
    template = judge_template()
    prompts = [[{"role": "user", "content": template.format(pair.query, *pair.responses)}] for pair in pairs]
    texts = [tokenizer.apply_chat_template(it, add_generation_prompt=True, tokenize=False) for it in prompts]
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def make_tokenizer(pairs: Sequence[TopicPair]) -> Any:
    """A byte-level BPE trained on the prompts and answers of `pairs`, with the tags as single plain tokens.

    Byte-level, so any text can be judged; the tags are not special, so decoding keeps them.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    template = judge_template()
    corpus = [text for pair in pairs for text in (template.format(pair.query, *pair.responses), reasoning(pair))]
    corpus += ["user\nassistant\n", "A", "B", "tie"] * len(pairs)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY - len(OUR_TAGS),
        special_tokens=[_PAD, _START, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    bpe.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in OUR_TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=_END,
        pad_token=_PAD,
        additional_special_tokens=[_START],
        chat_template=_CHAT_TEMPLATE,
        model_max_length=_MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
