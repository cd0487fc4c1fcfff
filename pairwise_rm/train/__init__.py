"""Train: GRPO with verl and vLLM, from a recipe; the dataset, the reward, verl's settings, and the supervision of its
process.

Decided here: which of verl's keys a recipe sets; when a run is refused, resumed, ended. Prompt and verdict are decided
in `contract`.
"""
