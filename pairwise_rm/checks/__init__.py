"""The checks of a recipe, in layers by what they need; each layer gives all of its problems, one line each.

recipe   the recipe alone: sizes, ranks, the prompt's template, source and split, verl's keys
files    the source file, and the pairs that were converted
model    the model's config.json and tokenizer, of a folder or of the hub: heads, context window, chat template

`train.preflight` adds what this machine or the cluster has. `validate` runs the first layer, and the others on request;
a dry run all that this machine can; a stage all of them before it requests GPUs. Importing this loads nothing heavy.
"""
