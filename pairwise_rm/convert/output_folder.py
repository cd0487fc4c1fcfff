"""The output of a conversion: five files that are replaced together, in a folder that may hold files of the user.

They are made in a hidden folder inside the output folder, so on the same file system. Once they are complete, one
rename to `.pairwise-rm-convert.complete` decides: what is killed before leaves the old output, and what is killed later
is finished by the next stage that converts into this folder or reads from it. A failure in between puts back what was
there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pairwise_rm.atomic_io import flush, working_folder
from pairwise_rm.contract.rows import DROPPED_FILE, MANIFEST_FILE, REJECTED_FILE, TEST_FILE, TRAIN_FILE
from pairwise_rm.errors import StageError

OUTPUT_FILES = (TRAIN_FILE, TEST_FILE, REJECTED_FILE, DROPPED_FILE, MANIFEST_FILE)

_NAME = "pairwise-rm-convert"
_COMPLETE = f".{_NAME}.complete"
"""A file of the new output is either in this folder or in its place already."""


@contextlib.contextmanager
def staged(output_dir: Path) -> Iterator[Path]:
    """Yields an empty folder for the five files; moves them into `output_dir` when the block ends without an error.

    Raises StageError when the disk is full or the folder cannot be written.
    """
    made = [folder for folder in (output_dir, *output_dir.parents) if not folder.exists()]
    done = False
    try:
        with _one_line(output_dir):
            output_dir.mkdir(parents=True, exist_ok=True)
            with working_folder(output_dir, _NAME) as staging:
                yield staging
                for name in OUTPUT_FILES:
                    flush(staging / name)
                finish(output_dir)
                os.rename(staging, output_dir / _COMPLETE)
                _move(output_dir, discarded=staging)
        done = True
    finally:
        for folder in () if done else made:
            # Only what this call made and left empty.
            with contextlib.suppress(OSError):
                folder.rmdir()


def finish(output_dir: Path) -> None:
    """Moves the files into place of a conversion that was killed while it did so.

    Raises StageError when the folder cannot be written.
    """
    if (output_dir / _COMPLETE).is_dir():
        with _one_line(output_dir), working_folder(output_dir, _NAME) as scratch:
            _move(output_dir, discarded=scratch)


def _move(output_dir: Path, discarded: Path) -> None:
    """Puts the complete files into place. What is then left of their folder becomes `discarded`."""
    complete = output_dir / _COMPLETE
    previous = complete / "previous"
    with contextlib.ExitStack() as at_the_end:
        # Renamed first: half removed, it would be taken for one whose files were moved.
        at_the_end.callback(os.rename, complete, discarded)
        previous.mkdir(exist_ok=True)
        with contextlib.ExitStack() as undo:
            for name in OUTPUT_FILES:
                new, target, saved = complete / name, output_dir / name, previous / name
                # Registered before anything moves, so that an interrupt in between is undone as well.
                undo.callback(_put_back, saved, target, new)
                if new.exists():
                    _keep(target, saved)
                    os.replace(new, target)
            undo.pop_all()


def _keep(target: Path, saved: Path) -> None:
    """Keeps a file for `_put_back`; it stays in place too, where the file system has hard links."""
    if not saved.exists() and target.exists():
        try:
            os.link(target, saved)
        except OSError:
            os.replace(target, saved)


def _put_back(saved: Path, target: Path, new: Path) -> None:
    if not new.exists():
        os.replace(target, new)
    if saved.exists():
        os.replace(saved, target)


@contextlib.contextmanager
def _one_line(output_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StageError(f"{output_dir}: cannot be written: {reason}") from error
