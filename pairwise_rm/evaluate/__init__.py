"""Evaluation: vLLM judges a parquet of pairs in both orders; figures, verdicts and a report come out."""
