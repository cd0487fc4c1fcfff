"""Reads the source's rows and writes what becomes of them: the pairs of each side, and the lists of the other rows.

    read rows -> convert -> choose the side -> drop repeats and conflicts -> filter -> write both orders

One pass, and a second one where a later row decides about an earlier one (`pairwise_rm.convert.duplicates`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pairwise_rm.contract.rows import DROPPED_FILE, REJECTED_FILE, TEST_FILE, TRAIN_FILE, Pair, pair_id
from pairwise_rm.convert.converters import SIDES, Converted, Converter, SeveralPairs, Side
from pairwise_rm.convert.counts import Counts, DropReason
from pairwise_rm.convert.dropped_rows import DroppedRows
from pairwise_rm.convert.duplicates import SeenPairs
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.rejected_rows import RejectedRows
from pairwise_rm.convert.row_writer import PairWriter
from pairwise_rm.convert.source import Source, SourceFile
from pairwise_rm.convert.source_rows import open_rows
from pairwise_rm.convert.split import Splitter
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import DatasetConfig, SourceConfig

Progress = Callable[[int, int], None]
"""Told from time to time how many bytes of the files were read, and how many there are."""


def write_pairs(
    config: DatasetConfig,
    converter: Converter,
    source: Source,
    folder: Path,
    output_dir: Path,
    progress: Progress | None = None,
) -> Counts:
    """Writes all but the manifest into `folder`, for `output_dir`.

    Raises InputError when more rows are rejected than allowed, or no pair is left for a side that is wanted.
    """
    splitter = Splitter(config.export)
    with SeenPairs(config.configs) as seen:
        counts = _Pass(config, converter, source, splitter, seen, progress).write(folder, output_dir)
        if seen.is_wrong:
            seen.settle()
            counts = _Pass(config, converter, source, splitter, seen, progress).write(folder, output_dir)
    _check_not_empty(counts, source, splitter)
    return counts


class _Pass:
    """All rows, once."""

    def __init__(
        self,
        config: DatasetConfig,
        converter: Converter,
        source: Source,
        splitter: Splitter,
        seen: SeenPairs,
        progress: Progress | None,
    ) -> None:
        self._config = config.configs
        self._converter = converter
        self._source = source
        self._splitter = splitter
        self._seen = seen
        self._progress = progress
        self._counts = Counts()
        self._taken: dict[Side | None, int] = {}

    def write(self, folder: Path, output_dir: Path) -> Counts:
        sizes = [file.path.stat().st_size for file in self._source.files]
        with ExitStack() as stack:
            rejected = stack.enter_context(RejectedRows(folder / REJECTED_FILE, self._config.max_rejected))
            dropped = stack.enter_context(DroppedRows(folder / DROPPED_FILE))
            executor = stack.enter_context(ThreadPoolExecutor(1, "parquet"))
            writers: dict[Side, PairWriter] = {
                side: stack.enter_context(PairWriter(folder / name, executor))
                for side, name in zip(SIDES, (TRAIN_FILE, TEST_FILE), strict=True)
            }
            for index, file in enumerate(self._source.files):
                for _ in self._file(file, rejected, dropped, writers):
                    self._tell(sum(sizes[:index]), sizes[index], sum(sizes))
            rejected.check(output_dir)
        if self._progress is not None:
            self._progress(sum(sizes), sum(sizes))
        return self._counts

    def _file(
        self, file: SourceFile, rejected: RejectedRows, dropped: DroppedRows, writers: dict[Side, PairWriter]
    ) -> Iterator[None]:
        """Converts one file; yields whenever a batch is full."""
        counts, converter, seen = self._counts, self._converter, self._seen
        self._reader = reader = open_rows(file.path, converter.columns)
        items = iter(reader)
        # A limit on all files together would leave nothing for those of the held-out rows, which come last.
        before = counts.read - self._taken.get(file.side, 0)
        for number, item in items:
            if counts.read - before == self._config.limit:
                self._leave_out(file, number, items, dropped)
                break
            counts.read += 1
            try:
                found = converter.convert(reader.parse(item))
                pairs = self._several(found, file, number, dropped) if isinstance(found, SeveralPairs) else (found,)
                sided = [(pair, self._splitter.side(pair.messages, file.side or split)) for pair, split in pairs]
            except RowError as error:
                counts.reject(error.reason)
                rejected.add(file, number, error, reader.text_of(item))
                continue
            if not sided:
                counts.dropped["no_worse_answer"] += 1
                dropped.without_pair(file, number, "no_worse_answer")
                continue
            counts.further_pairs += len(sided) - 1
            for pair, side in sided:
                identity = pair_id(pair.messages, pair.responses)
                reason = self._unwanted(pair) or seen.repeated(pair, identity) or _filtered(pair, self._config)
                if reason is not None:
                    counts.dropped[reason] += 1
                    dropped.add(file, number, reason, pair, identity)
                    continue
                counts.keep(side, pair.preferred)
                if writers[side].add(pair, identity, _characters(pair)):
                    yield
        self._taken[file.side] = counts.read - before
        counts.blank_lines += reader.blank_lines

    def _several(self, found: SeveralPairs, file: SourceFile, number: int, dropped: DroppedRows) -> list[Converted]:
        if found.left_out:
            self._counts.left_out["pairs_per_prompt"] += found.left_out
            dropped.left_out(file, number, found.left_out)
        return found.pairs

    def _leave_out(self, file: SourceFile, first: int, items: Iterator[tuple[int, Any]], dropped: DroppedRows) -> None:
        """Counts what the limit leaves of a file."""
        rows, last = 1, first
        for number, _ in items:
            rows, last = rows + 1, number
        self._counts.left_out["limit"] += rows
        dropped.unread(file, first, last, rows)

    def _unwanted(self, pair: Pair) -> DropReason | None:
        first, second = pair.responses
        return "identical" if first == second and self._config.identical == "drop" else None

    def _tell(self, before: int, size: int, total: int) -> None:
        if self._progress is not None:
            done, of = self._reader.progress()
            self._progress(before + (size * done // of if of else 0), total)


def _filtered(pair: Pair, config: SourceConfig) -> DropReason | None:
    if pair.preferred == "tie":
        return "tie" if config.ties == "drop" else None
    # A pair of unknown strength is not known to be weak, and is kept.
    return "weak" if pair.strength is not None and pair.strength < config.min_strength else None


def _characters(pair: Pair) -> int:
    first, second = pair.responses
    count = len(first) + len(second)
    for message in pair.messages:
        count += len(message["content"])
    return count


def _check_not_empty(counts: Counts, source: Source, splitter: Splitter) -> None:
    if not counts.read:
        raise InputError(f"{source.shown}: holds no rows, expected preference pairs")
    if not counts.kept:
        reasons = [*counts.dropped.items(), *counts.rejected.items()]
        told = ", ".join(f"{reason} {count}" for reason, count in reasons if count)
        raise InputError(f"{source.shown}: no pair is left of {counts.read} rows ({told})")
    for side in splitter.sides:
        if not counts.of(side).pairs:
            raise splitter.empty(side, counts.kept)
