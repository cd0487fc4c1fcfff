"""The convert stage: preference pairs of a source into the parquet files that training and evaluation read.

    locate the source -> is the output there already? -> write pairs -> manifest -> move into place

It streams: memory is bounded by the batch size, whatever the size of the input. It is all or nothing: five files are
written to a temporary folder and moved into place at the end, so a failure leaves the previous output.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pairwise_rm.atomic_io import sha256_of, write_json
from pairwise_rm.contract.rows import DROPPED_FILE, MANIFEST_FILE, REJECTED_FILE, TEST_FILE, TRAIN_FILE
from pairwise_rm.convert import manifest as manifests
from pairwise_rm.convert.converters import get_converter
from pairwise_rm.convert.counts import Counts
from pairwise_rm.convert.output_folder import finish, staged
from pairwise_rm.convert.source import Source
from pairwise_rm.convert.source_file import locate
from pairwise_rm.convert.write_pairs import Progress, write_pairs
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.recipe.model import DatasetConfig


@dataclasses.dataclass(frozen=True)
class ConvertResult:
    """`skipped`: the output existed already, from the same config and input; the counts are read from it."""

    output_dir: Path
    source: Source
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

    @property
    def dropped_file(self) -> Path:
        return self.output_dir / DROPPED_FILE


def convert(
    config: DatasetConfig, output_dir: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> ConvertResult:
    """Converts a source into `preference_{train,test}.parquet`, `manifest.json`, `rejected.jsonl` and `dropped.jsonl`.

    An existing output of the same config and input is kept; that of another is an error, unless `overwrite`.
    `output_dir` may hold other files, which are never touched; `config.export.output_dir` is not read.

    Raises InputError for a bad config, source or row (more rows than `max_rejected`, which are listed beside
    `output_dir`), StageError for a full disk or an unreachable hub. In both cases the previous output stays.
    """
    converter = get_converter(config.configs.source, config.configs.fields, config.configs.pairs_per_prompt)
    output_dir = Path(output_dir).expanduser()
    finish(output_dir)
    previous = None if overwrite else manifests.read(output_dir)
    source = locate(config.configs, converter.hub, config.export.is_official)
    before = _stamps(source)
    with ThreadPoolExecutor(1, "checksum") as background:
        checksums = background.submit(_checksums, source)
        if source.sha256 is not None and (found := checksums.result()[0]) != source.sha256:
            raise _wrong_checksum(source, found)
        if previous is not None:
            manifests.refuse_other(previous, config, source, checksums.result(), output_dir)
            if manifests.is_intact(previous, output_dir):
                return ConvertResult(output_dir, source, Counts.from_json(previous["counts"]), skipped=True)
        with staged(output_dir) as staging:
            counts = write_pairs(config, converter, source, staging, output_dir, progress)
            for file, earlier, now in zip(source.files, before, _stamps(source), strict=True):
                if now != earlier:
                    raise StageError(f"{file.path}: changed while it was read; convert it again")
            write_json(staging / MANIFEST_FILE, manifests.build(config, source, checksums.result(), counts, staging))
    return ConvertResult(output_dir, source, counts)


def _checksums(source: Source) -> list[str]:
    return [_checksum(file.path) for file in source.files]


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _stamps(source: Source) -> list[tuple[int, int] | None]:
    return [_stamp(file.path) for file in source.files]


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes when the file does; None when it is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _wrong_checksum(source: Source, found: str) -> InputError:
    path = source.files[0].path
    advice = f"delete {path.resolve()} and download it again" if source.repo else "see data.configs.sha256"
    return InputError(f"{path}: SHA-256 is {found}, expected {source.sha256}; {advice}")
