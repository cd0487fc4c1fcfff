"""The output of a conversion: five files that are replaced together, in a folder that may hold files of the user.

They are made in a hidden folder inside the output folder (so on the same file system) and moved into place at
the end, the manifest last. Whatever fails before or during that puts back what was there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pairwise_rm.contract.rows import DROPPED_FILE, MANIFEST_FILE, REJECTED_FILE, TEST_FILE, TRAIN_FILE
from pairwise_rm.errors import StageError

OUTPUT_FILES = (TRAIN_FILE, TEST_FILE, REJECTED_FILE, DROPPED_FILE, MANIFEST_FILE)

_PREFIX = ".pairwise-rm-convert."


@contextlib.contextmanager
def staged(output_dir: Path) -> Iterator[Path]:
    """Yields an empty folder for the five files; moves them into `output_dir` when the block ends without an error.

    Raises StageError when the disk is full or the folder cannot be written.
    """
    made = [folder for folder in (output_dir, *output_dir.parents) if not folder.exists()]
    staging: Path | None = None
    done = False
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=output_dir))
        yield staging
        _move(staging, output_dir)
        done = True
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StageError(f"{output_dir}: cannot be written: {reason}") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        for folder in () if done else made:
            # Only what this call made and left empty.
            with contextlib.suppress(OSError):
                folder.rmdir()


def _move(staging: Path, output_dir: Path) -> None:
    previous = staging / "previous"
    previous.mkdir()
    for name in OUTPUT_FILES:
        _flush(staging / name)
    with contextlib.ExitStack() as undo:
        for name in OUTPUT_FILES:
            target, saved = output_dir / name, previous / name
            # Registered before anything moves, so that an interrupt in between is undone as well.
            undo.callback(_put_back, saved, target, target.exists())
            if target.exists():
                os.replace(target, saved)
            os.replace(staging / name, target)
        undo.pop_all()


def _put_back(saved: Path, target: Path, was_there: bool) -> None:
    if saved.exists():
        os.replace(saved, target)
    elif not was_there:
        target.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())
