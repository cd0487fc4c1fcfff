"""A stage on a Ray cluster: it waits for its input and its GPUs, works, and tells the others how it stands."""

STAGES = ("convert", "train", "evaluate", "export")
"""In their order."""
