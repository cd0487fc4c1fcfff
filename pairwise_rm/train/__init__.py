"""Train: GRPO with verl and vLLM, from a recipe; the dataset, the reward, and what is set in verl and watched of it.

Decided here: which of verl's keys a recipe sets; when a run is refused, resumed, ended. Not the prompt or the verdict.
"""
