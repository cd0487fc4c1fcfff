"""Downloads from the Hugging Face hub that outlast its bad moments, and are checked.

huggingface_hub asks again by itself for some of what it needs, and not for a file that is refused with a 500. It waits
as long as a 429 says, for ever where the list of files does not come or each answer is cut short, and compares no
checksum. Here each of these is one fault among at most TRIES, waits are bounded and said, and a large file (LFS) must
have the SHA-256 that is its ETag.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pairwise_rm.atomic_io import sha256_of
from pairwise_rm.errors import first_line

TRIES = 5
LONGEST_WAIT = 300.0
"""Seconds: the hub counts requests in windows of five minutes."""
BUDGET = 1200.0
"""Seconds after the first try in which another one may begin."""
_BUSY = (408, 429, 500, 502, 503, 504)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(__name__)
_Found = TypeVar("_Found")


class HubFault(Exception):
    """What the hub did at the last of several tries: a sentence without `the hub` and its end."""


class _Fault(NamedTuple):
    """In a word, as what the hub did, and how long it asks to wait. `unreachable`: nothing answered."""

    short: str
    text: str
    wait: float | None = None
    unreachable: bool = False


class _Refusal(Exception):
    """A fault that huggingface_hub does not see."""

    def __init__(self, fault: _Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


def download(repo: str, path: str, *, dataset: bool = False, revision: str | None = None) -> Path:
    """One file, from the cache where it is there. Raises HubFault, and what huggingface_hub says about a wrong name."""
    from huggingface_hub import hf_hub_download

    kind, whole = "dataset" if dataset else "model", Counter[str]()

    def fetch() -> Path:
        with _watched(whole), _checked(repo, kind):
            return Path(hf_hub_download(repo, path, repo_type=kind, revision=revision))

    return patiently(fetch)


def snapshot(repo: str, revision: str | None) -> Path:
    """A model's folder in the cache. Raises as `download` does."""
    from huggingface_hub import snapshot_download

    whole = Counter[str]()

    def fetch() -> Path:
        with _watched(whole), _checked(repo, "model"):
            return Path(snapshot_download(repo, revision=revision))

    return patiently(fetch)


def dataset_files(repo: str, revision: str | None) -> tuple[str, list[str]]:
    """The commit of a revision, and the names of its files. Raises as `download` does."""
    from huggingface_hub import HfApi

    def fetch() -> tuple[str, list[str]]:
        with _watched(Counter()):
            info = HfApi().dataset_info(repo, revision=revision)
        return info.sha, [sibling.rfilename for sibling in info.siblings or []]

    return patiently(fetch)


def patiently(fetch: Callable[[], _Found], *, wait_for_network: bool = True) -> _Found:
    """What `fetch` returns, which asks the hub; tried again where that may help.

    Without `wait_for_network` it is not, where nothing answers. Raises HubFault after TRIES tries, where the hub asks
    for more patience than LONGEST_WAIT, and after BUDGET seconds; what is no fault of the hub is raised as it is.
    """
    began, tries = time.monotonic(), 0
    while True:
        tries += 1
        try:
            return fetch()
        except Exception as error:
            fault = _fault_of(error)
            if fault is None or (fault.unreachable and not wait_for_network):
                raise
            wait = 2.0**tries if fault.wait is None else fault.wait
            told = f"{fault.text}, {tries} {'try' if tries == 1 else 'tries'}"
            if wait > LONGEST_WAIT:
                raise HubFault(f"{told}; it asks to wait for {wait:.0f} s") from error
            if tries == TRIES or time.monotonic() - began + wait > BUDGET:
                raise HubFault(told) from error
        _log.warning("hub: %s, trying again in %.0f s (%d of %d)", fault.short, wait, tries + 1, TRIES)
        time.sleep(wait)


@contextlib.contextmanager
def _watched(whole: Counter[str]) -> Iterator[None]:
    """Makes a fault of what huggingface_hub would wait for by itself, for minutes or without end.

    `whole`: how often each file was sent from its start.
    """
    from huggingface_hub import constants, get_session

    heads: dict[str, _Fault] = {}

    def ask(request: Any) -> None:
        if not any((request.extensions.get("timeout") or {}).values()):
            seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        if request.method == "HEAD":
            if fault := heads.get(str(request.url)):
                # The first one has failed, and the file is not in the cache.
                raise _Refusal(fault)
            heads[str(request.url)] = _out_of_reach("no answer")

    def answered(response: Any) -> None:
        url, method = str(response.request.url), response.request.method
        if method == "HEAD" and response.status_code in _BUSY:
            heads[url] = _of_answer(response)
        elif method == "HEAD":
            heads.pop(url, None)
        if method != "GET" or response.request.url.path.startswith("/api/"):
            return
        if response.status_code in _BUSY:
            raise _Refusal(_of_answer(response))
        whole[url] += response.status_code == 200
        if whole[url] > 2 * TRIES:
            raise _Refusal(_Fault("a file was cut short", f"cut {_plain(url)} short again and again"))

    hooks: dict[str, list[Any]] = get_session().event_hooks
    hooks["request"].append(ask)
    hooks["response"].append(answered)
    try:
        yield
    finally:
        hooks["request"].remove(ask)
        hooks["response"].remove(answered)


def _fault_of(error: BaseException) -> _Fault | None:
    """What is wrong with the hub by an error, or by what caused it; None if it is something else."""
    from huggingface_hub import constants, errors

    if isinstance(error, _Refusal):
        return error.fault
    if isinstance(error, errors.OfflineModeIsEnabled):
        return None
    if isinstance(error, errors.HfHubHTTPError):
        return _of_answer(error.response) if error.response.status_code in _BUSY else None
    endpoint = constants.ENDPOINT
    if isinstance(error, errors.HTTPError):  # of its HTTP client: httpx, or httpx2 since huggingface_hub 2
        return _out_of_reach(first_line(error))
    if isinstance(error, OSError) and str(error).startswith("Consistency check failed"):
        return _Fault("a file was cut short", f"at {endpoint} sent a file that was cut short")
    if isinstance(error, (RuntimeError, ConnectionError, TimeoutError)) and _is_of_xet(error):
        return _Fault(first_line(error), f"at {endpoint} failed: {first_line(error)}")
    return _fault_of(error.__cause__) if error.__cause__ else None


def _out_of_reach(why: str) -> _Fault:
    from huggingface_hub import constants

    return _Fault(f"out of reach ({why})", f"at {constants.ENDPOINT} is out of reach: {why}", unreachable=True)


def _is_of_xet(error: BaseException) -> bool:
    """Whether huggingface_hub's other way to download raised it, which has no errors of its own."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return bool(trace and trace.tb_frame.f_code.co_name == "xet_get")


def _of_answer(response: Any) -> _Fault:
    code, headers = response.status_code, response.headers
    told = headers.get("retry-after", "").strip()
    window = re.search(r";\s*t=(\d+)", headers.get("ratelimit", "")) if code == 429 else None
    wait = float(told) if told.isdigit() else float(window[1]) if window else None
    return _Fault(f"HTTP {code}", f"answered HTTP {code} to {_plain(response.request.url)}", wait)


def _plain(url: Any) -> str:
    """Without its query, which may hold a signature."""
    return str(url).partition("?")[0]


@contextlib.contextmanager
def _checked(repo: str, kind: str) -> Iterator[None]:
    """Compares what the block has downloaded with its SHA-256, and removes from the cache what is something else."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"{kind}s--{repo.replace('/', '--')}" / "blobs"
    before = _large_files(folder)
    yield
    new = sorted(_large_files(folder) - before)
    with ThreadPoolExecutor() as threads:
        for path, found in zip(new, threads.map(sha256_of, new), strict=True):
            if found != path.name:
                path.unlink()
                text = f"at {constants.ENDPOINT} sent a file with SHA-256 {found}, expected {path.name}"
                raise _Refusal(_Fault("a file with another SHA-256", text))


def _large_files(blobs: Path) -> set[Path]:
    """Files of the cache whose name, their ETag, is their SHA-256."""
    return {path for path in blobs.iterdir() if _SHA256.fullmatch(path.name)} if blobs.is_dir() else set()
