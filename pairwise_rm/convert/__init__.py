"""Convert: from a source's rows to preference pairs, both orders of each, as the parquet files of `contract.rows`.

Decided here: which rows are pairs, which are dropped or rejected, and how they are split. The format of a row is
decided in `contract.rows`.
"""
