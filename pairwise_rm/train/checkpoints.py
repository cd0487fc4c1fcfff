"""Sealed checkpoints: a list of every file with its size and checksum, written last.

A folder without the seal was interrupted while it was written; one whose files do not match it was damaged afterwards.
The seal comes in two parts: the sizes as soon as verl has saved, the checksums once every file was read back, so that
training need not wait for them. What is loaded is checked first: resuming, merging and export take the newest
checkpoint that is whole, and rename a damaged one to `global_step_<N>.damaged`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from pairwise_rm.atomic_io import atomic_symlink, flush, write_json
from pairwise_rm.errors import InputError, StageError

SEAL = "checkpoint.json"
GIB = 1 << 30
BYTES_OF_A_WEIGHT = 12
"""Of a checkpoint: a trained weight in float32, and its two Adam moments."""
_NAME = re.compile(r"global_step_(\d+)")
_UNFINISHED = re.compile(r"global_step_\d+\.unfinished")
_OF_A_RANK = re.compile(r"(.*_world_size_(\d+)_rank_)\d+\.pt")
_BLOCK = 1 << 20
_THREADS = min(8, os.cpu_count() or 1)
_Found = TypeVar("_Found")


class _Seal(NamedTuple):
    """`checksums` are empty while they are being made, and in checkpoints of earlier versions."""

    sizes: dict[str, int]
    checksums: dict[str, str]


def seal(folder: Path) -> None:
    """Records the size of every file of a finished checkpoint."""
    write_json(folder / SEAL, {"step": step_of(folder), "files": _sizes(folder)})


def seal_with_checksums(folder: Path) -> None:
    """Reads a sealed checkpoint back and adds the checksum of every file to its seal.

    What is read back is compared with the checksums that torch keeps inside its files, made while it wrote them from
    memory. Raises as `check` does.
    """
    names = _of_all_ranks(_read_seal(folder).sizes)
    _parallel(flush, folder, names)  # older checkpoints are removed next
    check(folder)
    sizes = _parallel(lambda path: path.stat().st_size, folder, names)
    write_json(folder / SEAL, {"step": step_of(folder), "files": sizes, "crc32": _parallel(_crc32, folder, names)})


def step_of(folder: Path) -> int:
    """The step in a folder's name, such as `global_step_20`."""
    match = _NAME.fullmatch(folder.name)
    if not match:
        raise InputError(f"{folder}: expected a checkpoint folder named global_step_<N>")
    return int(match.group(1))


def check(folder: Path) -> None:
    """Raises InputError when a checkpoint has no seal, lacks a file, or holds one that is not what was written.

    Where the seal has no checksums, torch's own are looked at. Raises StageError when a file cannot be read.
    """
    sizes, checksums = _read_seal(folder)
    for name in _of_all_ranks(sizes):
        path = folder / name
        if not path.is_file():
            raise InputError(f"{folder}: cut short: {name} is missing")
        found = path.stat().st_size
        if found != sizes.get(name, found):
            raise InputError(f"{folder}: cut short: {name} has {found} bytes, expected {sizes[name]}")
    whole = _parallel(_is_whole_zip, folder, (name for name in sizes if name.endswith(".pt") and not checksums))
    now = _parallel(_crc32, folder, checksums)
    for name in sizes:
        if now.get(name) != checksums.get(name) or not whole.get(name, True):
            raise InputError(f"{folder}: damaged: {name} is not what was written")


def sealed(checkpoints: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    return [path for path in _named(checkpoints) if (path / SEAL).is_file()]


def unfinished(checkpoints: Path) -> list[Path]:
    """Checkpoints that were being written when a run ended and were set aside since; nothing can use them."""
    return [path for path in _folders(checkpoints) if _UNFINISHED.fullmatch(path.name)]


def has_any(checkpoints: Path) -> bool:
    """Whether training has finished a checkpoint, be it damaged now."""
    return any(".damaged" in path.name for path in _folders(checkpoints)) or bool(sealed(checkpoints))


def newest(checkpoints: Path, warn: Callable[[str], None] | None = None) -> Path | None:
    """The newest checkpoint that is whole; None when there is none.

    Those after it are set aside, each with a line to `warn`, and `latest` is made to point at what is returned. Raises
    StageError when a file cannot be read, or a folder cannot be renamed.
    """
    found = sealed(checkpoints)
    while found:
        path = found.pop()
        try:
            check(path)
        except InputError as error:
            if not (path / SEAL).is_file():
                continue  # a training that goes on has removed it meanwhile
            target = set_aside(path, "damaged")
            if warn:
                rest = "the one before it is used" if found else "and there is none before it"
                warn(f"{error}; set aside as {target.name}, {rest}")
            continue
        if (link := checkpoints.parent / "latest").is_symlink() and link.resolve() != path.resolve():
            point_latest_at(path)
        return path
    return None


def set_aside(folder: Path, reason: str) -> Path:
    """Renames a checkpoint to `global_step_<N>.<reason>`, with a number behind it when that name is taken."""
    names = (f"{folder.name}.{reason}{number}" for number in ("", *(f".{i}" for i in range(2, 1000))))
    target = next(path for name in names if not (path := folder.with_name(name)).exists())
    try:
        folder.rename(target)
    except OSError as error:
        raise StageError(f"{folder}: cannot be set aside: {error.strerror or error}") from error
    return target


def set_aside_unfinished(checkpoints: Path) -> None:
    """A checkpoint that was being written when the run ended is renamed, so that nothing takes it for one."""
    for path in set(_named(checkpoints)) - set(sealed(checkpoints)):
        shutil.rmtree(path.with_name(f"{path.name}.unfinished"), ignore_errors=True)
        set_aside(path, "unfinished")


def point_latest_at(folder: Path) -> None:
    """The links `latest` and `actor_latest` beside the folder of the checkpoints."""
    train = folder.parent.parent
    atomic_symlink(train / "latest", f"{folder.parent.name}/{folder.name}")
    atomic_symlink(train / "actor_latest", f"{folder.parent.name}/{folder.name}/actor")


def prune(checkpoints: Path, keep: int) -> None:
    """Removes all but the `keep` newest finished checkpoints, and what was left unfinished before them.

    Damaged ones do not count, and stay.
    """
    finished = sealed(checkpoints)
    if not finished:
        return
    older = [path for path in _named(checkpoints) if step_of(path) < step_of(finished[-1])]
    for path in (*(path for path in older if path not in finished[-keep:]), *unfinished(checkpoints)):
        # The seal goes first, so that nobody takes the half of it for a damaged one.
        (path / SEAL).unlink(missing_ok=True)
        shutil.rmtree(path)


def expected_bytes(checkpoints: Path, weights: int) -> int:
    """The size of the next checkpoint: that of the last one, or of the first one from the number of its weights."""
    finished = sealed(checkpoints)
    with contextlib.suppress(InputError):  # a damaged seal tells no sizes
        if finished:
            return sum(_read_seal(finished[-1]).sizes.values())
    return weights * BYTES_OF_A_WEIGHT


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder, the seal apart."""
    return sum(_sizes(folder).values())


@contextlib.contextmanager
def room_for(folder: Path, wanted: int) -> Iterator[None]:
    """Around the saving of a checkpoint. Raises StageError when its bytes do not fit on the disk.

    What was left unfinished earlier is removed when its room is needed; a part that did not fit is removed too.
    """
    if _free(folder) < wanted:
        for path in unfinished(folder.parent):
            shutil.rmtree(path)
    before = _free(folder)
    if before < wanted:
        raise StageError(_no_room(folder, wanted, before))
    try:
        yield
    except Exception as error:
        free = _free(folder)
        # Without a known size (a model of the hub, first save) the disk is full when nothing more can be written.
        full = folder.exists() and free < max(wanted - size_of(folder), _BLOCK)
        if full and not (folder / SEAL).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            raise StageError(_no_room(folder, wanted, free)) from error
        raise


def _no_room(folder: Path, wanted: int, free: int) -> str:
    last = sealed(folder.parent)
    kept = f"{last[-1].name} is the newest checkpoint" if last else "there is no checkpoint yet"
    return f"{folder}: {_amount(wanted)} wanted for this checkpoint, {_amount(free)} free; {kept}"


def _amount(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.1f} MiB"


def _free(folder: Path) -> int:
    there = next(path for path in folder.parents if path.exists())
    return shutil.disk_usage(there).free


def _folders(checkpoints: Path) -> Iterable[Path]:
    return [path for path in checkpoints.iterdir() if path.is_dir()] if checkpoints.is_dir() else []


def _named(checkpoints: Path) -> list[Path]:
    return sorted((path for path in _folders(checkpoints) if _NAME.fullmatch(path.name)), key=step_of)


def _sizes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / SEAL
    }


def _read_seal(folder: Path) -> _Seal:
    try:
        record = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        return _Seal(dict(record["files"]), dict(record.get("crc32", {})))
    except FileNotFoundError:
        raise InputError(f"{folder}: not a finished checkpoint ({SEAL} is missing)") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{folder}: cut short: {SEAL} is not what was written") from None


def _of_all_ranks(names: Iterable[str]) -> list[str]:
    """The files of a checkpoint, and those that a rank must have because another one has its own."""
    found = list(names)
    ranks = {(match[1], int(match[2])) for name in found if (match := _OF_A_RANK.fullmatch(name))}
    wanted = (f"{stem}{rank}.pt" for stem, world in sorted(ranks) for rank in range(world))
    return list(dict.fromkeys(itertools.chain(found, wanted)))


def _parallel(work: Callable[[Path], _Found], folder: Path, names: Iterable[str]) -> dict[str, _Found]:
    """What `work` finds for each file, read in threads: zlib and the file system work without Python's lock."""

    def one(name: str) -> _Found:
        try:
            return work(folder / name)
        except FileNotFoundError:
            raise InputError(f"{folder}: cut short: {name} is missing") from None
        except OSError as error:
            if error.errno == errno.EIO:
                raise InputError(f"{folder}: damaged: {name}: {error.strerror}") from error
            raise StageError(f"{folder / name}: cannot be read: {error.strerror or error}") from error

    wanted = list(names)
    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(wanted, threads.map(one, wanted), strict=True))


def _crc32(path: Path) -> str:
    """As eight hex digits. For integrity, not for security: it runs at the speed of the memory, SHA-256 does not."""
    found, block = 0, memoryview(bytearray(_BLOCK))
    with open(path, "rb", buffering=0) as handle:
        while count := handle.readinto(block):
            found = zlib.crc32(block[:count], found)
    return f"{found:08x}"


def _is_whole_zip(path: Path) -> bool:
    """Whether the zip archive that `torch.save` writes can be read and has the contents of its own checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a damaged directory sends it to a place that is not there
            return False
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, struct.error, zlib.error):
        return False
