"""Evaluate: vLLM judges the held-out pairs in both orders; figures with intervals, verdicts and a report come out.

Decided here: what is measured, and how certain it is. What counts as a verdict is decided in `contract.verdict`.
"""
