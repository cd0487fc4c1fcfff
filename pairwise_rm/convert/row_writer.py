"""Writes pairs as rows of the contract, both orders adjacent, in batches of bounded size.

The texts of a batch are one dictionary (`pairwise_rm.convert.row_columns`), which parquet stores once per row group,
so the second order costs a few bits per response. The dictionary must not overflow, hence its page limit: an overflow
would store the rest of the batch without a dictionary.

A thread encodes and compresses a batch while the next one is parsed.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pairwise_rm.contract.rows import Pair

if TYPE_CHECKING:
    import pyarrow

BATCH_CHARACTERS = 4 << 20
"""Text of a batch and so of a row group. Bigger compresses better and holds more memory."""
BATCH_PAIRS = 1 << 14

COMPRESSION = "zstd"
COMPRESSION_LEVEL = 3
"""Level 9 makes the files an eighth smaller and takes four times the processor time of all the writing."""
_DICTIONARY_LIMIT = 1 << 30
_SMALL_COLUMNS = ["preferred", "strength", "source", "subset"]


class PairWriter:
    """One parquet file. `add` takes a pair, `close` (or leaving the `with` block) writes what is left."""

    def __init__(self, path: Path, executor: Executor) -> None:
        self.path = path
        self._executor = executor
        self._pairs: list[Pair] = []
        self._ids: list[str] = []
        self._characters = 0
        self._writing: Future[None] | None = None
        self._file: pyarrow.parquet.ParquetWriter | None = None

    def __enter__(self) -> PairWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._writing is not None:
            self._writing.cancel()

    def add(self, pair: Pair, identity: str, characters: int) -> bool:
        """Adds a pair; returns whether it filled a batch. `characters`: length of its texts."""
        self._pairs.append(pair)
        self._ids.append(identity)
        self._characters += characters
        if self._characters < BATCH_CHARACTERS and len(self._pairs) < BATCH_PAIRS:
            return False
        self._flush()
        return True

    def close(self) -> None:
        if self._pairs or (self._file is None and self._writing is None):
            self._flush()  # a file without rows as well has the columns
        self._wait()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _flush(self) -> None:
        from pairwise_rm.convert.row_columns import both_orders_table

        # Built here and not in the thread, where the two would compete for the GIL.
        table = both_orders_table(self._pairs, self._ids)
        self._wait()
        self._writing = self._executor.submit(self._write, table)
        self._pairs, self._ids, self._characters = [], [], 0

    def _wait(self) -> None:
        """Waits for the batch that is being written, and raises its error: one at a time bounds the memory."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _write(self, table: pyarrow.Table) -> None:
        import pyarrow.parquet as pq

        if self._file is None:
            self._file = pq.ParquetWriter(
                self.path,
                table.schema,
                compression=COMPRESSION,
                compression_level=COMPRESSION_LEVEL,
                dictionary_pagesize_limit=_DICTIONARY_LIMIT,
                write_statistics=_SMALL_COLUMNS,
                # The stored Arrow schema would say "dictionary", which is how the columns are written, not their type.
                store_schema=False,
            )
        self._file.write_table(table, row_group_size=max(table.num_rows, 1))
