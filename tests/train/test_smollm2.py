"""The real small model, end to end: 93 MB to download and about two minutes; PAIRWISE_RM_SLOW=1 asks for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.environ.get("PAIRWISE_RM_SLOW") != "1", reason="set PAIRWISE_RM_SLOW=1 to run it")


def test_smollm2_answers_a_question_and_stops(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pairwise_rm.contract.prompt import thinking_of
    from pairwise_rm.toy import make

    folder = tmp_path / "smollm2"
    make("smollm2", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert len(tokenizer) == model.config.vocab_size

    assert thinking_of(tokenizer) == "prompt"
    question = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
    text = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    prompt = tokenizer(text.removesuffix("<think>"), return_tensors="pt", add_special_tokens=False)
    output = model.generate(**prompt, max_new_tokens=60, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert output[-1] == tokenizer.eos_token_id
    assert "Paris" in tokenizer.decode(output, skip_special_tokens=True)
