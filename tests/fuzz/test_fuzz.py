"""Inputs that failed once, and then others for as long as BUDGET says (seconds for all targets together)."""

from __future__ import annotations

import faulthandler
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

pytest.importorskip("hypothesis")
pytest.importorskip("pyarrow")
pytest.importorskip("starlette")

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.inputs import inputs_for
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
BUDGET = float(os.environ.get("BUDGET", "20"))
HANGS = 20  # seconds; a loaded machine is slow
_EXAMPLES = 50


def corpus(target: str) -> list[Path]:
    folder = CORPUS / target
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {HANGS} s")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    faulthandler.cancel_dump_traceback_later()


def tried(target: str, data: bytes) -> None:
    signal.setitimer(signal.ITIMER_REAL, HANGS)
    # What hangs outside of Python is ended, with a traceback.
    faulthandler.dump_traceback_later(6 * HANGS, exit=True)
    TARGETS[target](data)


@pytest.mark.parametrize("path", [path for name in TARGETS for path in corpus(name)], ids=lambda path: path.name)
def test_what_failed_once_does_not_fail_again(path: Path) -> None:
    tried(path.parent.name, path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes_are_read_or_refused_with_one_line(target: str) -> None:
    end = time.monotonic() + BUDGET / len(TARGETS)
    last = b""

    @settings(
        max_examples=_EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs_for(target, [path.read_bytes() for path in corpus(target)]))
    def try_some(data: bytes) -> None:
        nonlocal last
        last = data
        tried(target, data)

    rounds = 0
    while not rounds or time.monotonic() < end:
        try:
            seed(int.from_bytes(os.urandom(8), "big"))(try_some)()
        except Exception:
            _keep(target, last)
            raise
        rounds += 1
    print(f"{target}: {rounds * _EXAMPLES} inputs")


def _keep(target: str, data: bytes) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:12]
    path.write_bytes(data)
    print(f"kept as {path}; `git add` it with the fix")


def test_every_folder_of_the_corpus_is_of_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= set(TARGETS)
