"""Convert: preference data of a source into the typed parquet files of `pairwise_rm.contract.rows`."""
