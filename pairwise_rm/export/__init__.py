"""Export: the newest checkpoint as a plain Hugging Face folder, with tokenizer, recipe and model card.

Decided here: how FSDP shards become safetensors, and what the card says. Which checkpoint counts: `train.checkpoints`.
"""
