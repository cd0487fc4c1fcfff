"""What all stages agree on: rows and their files, the judge's prompt, how it is cut to fit, the verdict.

Each is decided here, once; no stage has a variant of its own. What a stage does with them is decided there.
"""
