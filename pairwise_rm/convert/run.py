"""The convert stage: preference pairs of a source into the parquet files that training and evaluation read.

    locate the source -> read rows -> convert -> drop repeats -> filter -> choose the side -> write both orders

It streams: memory is bounded by the batch size, whatever the size of the input. It is all or nothing: four files are
written to a temporary folder and moved into place at the end, so a failure leaves the previous output.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from pairwise_rm.atomic_io import sha256_of, write_json
from pairwise_rm.contract.rows import MANIFEST_FILE, REJECTED_FILE, TEST_FILE, TRAIN_FILE, Pair, pair_id
from pairwise_rm.convert import manifest as manifests
from pairwise_rm.convert.converters import SIDES, Converter, SeveralPairs, Side, get_converter
from pairwise_rm.convert.counts import Counts, DropReason
from pairwise_rm.convert.duplicates import SeenPairs
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.output_folder import staged
from pairwise_rm.convert.rejected_rows import RejectedRows
from pairwise_rm.convert.row_writer import PairWriter
from pairwise_rm.convert.source_file import SourceFile, locate
from pairwise_rm.convert.source_rows import open_rows
from pairwise_rm.convert.split import Splitter
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.recipe.model import DatasetConfig, SourceConfig

Progress = Callable[[int, int], None]
"""Told from time to time how much of the input was read and how much there is (bytes; rows of a parquet)."""


@dataclasses.dataclass(frozen=True)
class ConvertResult:
    """`skipped`: the output existed already, from the same config and input; the counts are read from it."""

    output_dir: Path
    source: Path
    counts: Counts
    skipped: bool = False

    @property
    def train_file(self) -> Path:
        return self.output_dir / TRAIN_FILE

    @property
    def test_file(self) -> Path:
        return self.output_dir / TEST_FILE

    @property
    def manifest_file(self) -> Path:
        return self.output_dir / MANIFEST_FILE

    @property
    def rejected_file(self) -> Path:
        return self.output_dir / REJECTED_FILE


def convert(
    config: DatasetConfig, output_dir: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> ConvertResult:
    """Converts a source into `preference_{train,test}.parquet`, `manifest.json` and `rejected.jsonl`.

    An existing output of the same config and input is kept; that of another is an error, unless `overwrite`.
    `output_dir` may hold other files, which are never touched; `config.export.output_dir` is not read.

    Raises InputError for a bad config, source or row (more rows than `max_rejected`), StageError for a full disk or
    an unreachable hub. In both cases the previous output stays.
    """
    converter = get_converter(config.configs.source, config.configs.fields, config.configs.pairs_per_prompt)
    output_dir = Path(output_dir).expanduser()
    previous = None if overwrite else manifests.read(output_dir)
    source = locate(config.configs, converter.hub)
    before = _stamp(source.path)
    with ThreadPoolExecutor(1, "checksum") as background:
        checksum = background.submit(_checksum, source.path)
        if source.sha256 is not None and checksum.result() != source.sha256:
            raise _wrong_checksum(source, checksum.result())
        if previous is not None:
            manifests.refuse_other(previous, config, checksum.result(), output_dir)
            if manifests.is_intact(previous, output_dir):
                return ConvertResult(output_dir, source.path, Counts.from_json(previous["counts"]), skipped=True)
        with staged(output_dir) as staging:
            counts = _convert_rows(config, converter, source.path, staging, progress)
            if _stamp(source.path) != before:
                raise StageError(f"{source.path}: changed while it was read; convert it again")
            write_json(staging / MANIFEST_FILE, manifests.build(config, source, checksum.result(), counts, staging))
    return ConvertResult(output_dir, source.path, counts)


def _convert_rows(
    config: DatasetConfig, converter: Converter, source: Path, staging: Path, progress: Progress | None
) -> Counts:
    counts = Counts()
    reader = open_rows(source)
    splitter = Splitter(config.export)
    with ExitStack() as stack:
        rejected = stack.enter_context(RejectedRows(staging / REJECTED_FILE, source, config.configs.max_rejected))
        seen = stack.enter_context(SeenPairs())
        executor = stack.enter_context(ThreadPoolExecutor(1, "parquet"))
        writers: dict[Side, PairWriter] = {
            side: stack.enter_context(PairWriter(staging / name, executor))
            for side, name in zip(SIDES, (TRAIN_FILE, TEST_FILE), strict=True)
        }
        for number, item in itertools.islice(reader, config.configs.limit):
            counts.read += 1
            try:
                found = converter.convert(reader.parse(item))
                several = found.pairs if isinstance(found, SeveralPairs) else (found,)
                sided = [(pair, splitter.side(pair.messages, official)) for pair, official in several]
            except RowError as error:
                counts.reject(error.reason)
                rejected.add(number, error, reader.text_of(item))
                continue
            for pair, side in sided:
                identity = pair_id(pair.messages, pair.responses)
                reason = seen.repeated(pair, identity) or _unwanted(pair, config.configs)
                if reason is not None:
                    counts.dropped[reason] += 1
                    continue
                counts.keep(side, pair.preferred)
                if writers[side].add(pair, identity, _characters(pair)) and progress is not None:
                    progress(*reader.progress())
        _check_not_empty(counts, source, splitter)
    counts.blank_lines = reader.blank_lines
    if progress is not None:
        _, total = reader.progress()
        progress(total, total)
    return counts


def _unwanted(pair: Pair, config: SourceConfig) -> DropReason | None:
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


def _check_not_empty(counts: Counts, source: Path, splitter: Splitter) -> None:
    if not counts.read:
        raise InputError(f"{source}: holds no rows, expected preference pairs")
    if not counts.kept:
        reasons = [*counts.dropped.items(), *counts.rejected.items()]
        told = ", ".join(f"{reason} {count}" for reason, count in reasons if count)
        raise InputError(f"{source}: no pair is left of {counts.read} rows ({told})")
    for side in SIDES:
        if not counts.of(side).pairs:
            raise splitter.empty(side, counts.kept)


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes when the file does; None when it is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _wrong_checksum(source: SourceFile, found: str) -> InputError:
    advice = f"delete {source.path.resolve()} and download it again" if source.repo else "see data.configs.sha256"
    return InputError(f"{source.path}: SHA-256 is {found}, expected {source.sha256}; {advice}")
