"""What a recipe will take before anything is rented: memory by part and phase, time, cost, and a layout that fits.

Nothing here needs torch, a GPU or the network: a model's `config.json`, the recipe as verl's keys, a table of GPUs
(`throughput.yaml`) and the lengths of the data are all that is read. docs/plan.md has the formulas and how well they
agreed with what was measured.
"""
