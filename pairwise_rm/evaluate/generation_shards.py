"""What the judge has written so far, in a folder beside the output that is being made: one parquet file per batch.

    <output>.partial/000000256.parquet     which prompts, and the texts and numbers of tokens of their samples

A command that was killed goes on with the prompts that are missing. A shard belongs to one configuration, which is in
its metadata: the model's weights, every prompt's tokens, the sampling and the versions. Verdicts are parsed anew.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

from pairwise_rm.atomic_io import atomic_path
from pairwise_rm.errors import StageError
from pairwise_rm.evaluate.engine import Generation

_CONFIGURATION = b"pairwise_rm.configuration"
_COLUMNS = ("index", "texts", "tokens")


def partial_folder(output: Path) -> Path:
    """Where the shards of this output are while it is made."""
    return output.with_name(f"{output.name}.partial")


def remove_shards(output: Path) -> None:
    """Removes the shards of an output that is complete."""
    shutil.rmtree(partial_folder(output), ignore_errors=True)


class Shards:
    """The shards of one configuration, for `count` prompts.

    `found` has what was there when it was opened, by index; `damaged` names the files that were not whole. Those and
    the files of another configuration are removed. Raises StageError when the folder cannot be written.
    """

    def __init__(self, folder: Path, configuration: str, count: int) -> None:
        self.folder, self._configuration = folder, configuration.encode()
        self.found: dict[int, Generation] = {}
        self.damaged: list[Path] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = sorted(folder.iterdir())
        except OSError as error:
            raise StageError(f"{folder}: cannot be written: {error.strerror or error}") from error
        for file in files:
            held = self._read(file, count) if file.suffix == ".parquet" else None
            if held is None:
                # One that cannot be removed is never read, and overwritten by the batch that it has the name of.
                with contextlib.suppress(OSError):
                    file.unlink()
            else:
                self.found |= held

    def add(self, indices: Sequence[int], generations: Sequence[Generation]) -> None:
        """Writes a finished batch. Raises StageError when the disk is full."""
        import pyarrow as pa
        from pyarrow import parquet

        schema = pa.schema(
            {"index": pa.int64(), "texts": pa.list_(pa.string()), "tokens": pa.list_(pa.int32())},
            metadata={_CONFIGURATION: self._configuration},
        )
        texts, tokens = [each.texts for each in generations], [each.tokens for each in generations]
        table = pa.table({"index": list(indices), "texts": texts, "tokens": tokens}, schema=schema)
        content = io.BytesIO()
        parquet.write_table(table, content, compression="zstd", write_page_checksum=True)
        with atomic_path(self.folder / f"{indices[0]:09d}.parquet") as temporary:
            temporary.write_bytes(content.getvalue())

    def leave(self) -> None:
        """Removes the folder if nothing is in it."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _read(self, file: Path, count: int) -> dict[int, Generation] | None:
        """A shard's generations; None for one that is damaged or of another configuration."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(file, page_checksum_verification=True) as opened:
                if (opened.schema_arrow.metadata or {}).get(_CONFIGURATION) != self._configuration:
                    return None
                columns = opened.read().to_pydict()
            index, texts, tokens = (columns[name] for name in _COLUMNS)
            if not all(0 <= at < count for at in index):
                raise ValueError("an index out of range")
            return {at: Generation(*sample) for at, *sample in zip(index, texts, tokens, strict=True)}
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
            self.damaged.append(file)
            return None
