"""Evaluate: vLLM judges the held-out pairs in both orders; writes metrics with intervals, verdicts and a report.

Decided here: what is measured, and how certain it is. What counts as a verdict is decided in `contract.verdict`.
"""
