"""Errors of the API server, each as a sentence: which verb on which resource, in which namespace of which cluster."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from pairwise_rm.errors import StageError
from pairwise_rm.k8s.kubeconfig import Place

_USER = re.compile(r'User "([^"]+)"')
_ACT = re.compile(r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"')
_NO_LOG_YET = "waiting to start"
_PASSING = (429, 500, 502, 503, 504)
_PAUSE_SECONDS = 5.0
_GIVE_UP_SECONDS = 300.0

T = TypeVar("T")


class Unavailable(StageError):
    """No answer, or none for the moment: what follows a run for hours asks again."""


class Forbidden(StageError):
    """The account may not do this."""


class NotFound(StageError):
    """There is no such object."""


class Answer(Exception):
    """An HTTP answer that is not a good one; `explained` puts it into words."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.message = status, _message(body)


@contextlib.contextmanager
def explained(place: Place, verb: str, resource: str, everywhere: bool = False) -> Iterator[None]:
    """Turns what goes wrong with a request in the block into one of these, with a sentence for the user."""
    from urllib3.exceptions import HTTPError

    try:
        yield
    except Answer as answer:
        raise _in_words(answer, place, verb, resource, everywhere) from answer
    except (HTTPError, TimeoutError, ConnectionError) as error:
        raise Unavailable(f"{place}: {_short(error)}") from error


def _in_words(answer: Answer, place: Place, verb: str, resource: str, everywhere: bool) -> StageError:
    status, message = answer.status, answer.message
    where = "all namespaces" if everywhere else f"namespace {place.namespace}"
    if status == 401:
        return StageError(f"{place}: the credentials are refused (401); log in to the cluster again")
    if status == 403:
        if act := _ACT.search(message):  # the server's own word, which for exec depends on its version
            verb, resource = act[1], f"{act[2]}.{act[3]}" if act[3] else act[2]
        user = f" as {found[1]}" if (found := _USER.search(message)) else ""
        flag = "-A" if everywhere else f"-n {place.namespace}"
        return Forbidden(
            f"no permission to {verb} {resource} in {where}{user}; ask the cluster's administrator for a Role with it "
            f"(`kubectl auth can-i {verb} {resource} {flag}` checks)"
        )
    if status == 404 or (status == 400 and _NO_LOG_YET in message):
        return NotFound(message or f"{resource}: not found")
    if status in _PASSING:
        return Unavailable(f"{place}: the API server answers {status}: {message}")
    return StageError(f"{verb} {resource} in {where}: {message} ({status})")


def _message(body: bytes) -> str:
    text = body.decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):  # not every proxy answers as the API server does
        text = str(json.loads(text)["message"])
    return " ".join(text.split())


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not one that the kubeconfig's certificate-authority has signed"
    if found := re.search(r"\[Errno -?\d+\] ([^'\")]+)", text):
        return f"out of reach: {found[1]}"
    return "no answer in time" if "timed out" in text.lower() else f"out of reach: {text}"


def with_retries(ask: Callable[[], T], say: Callable[[str], None]) -> T:
    """What `ask` returns, asked again while the API server is out of reach. Raises Unavailable after five minutes."""
    end = time.monotonic() + _GIVE_UP_SECONDS
    told = False
    while True:
        try:
            return ask()
        except Unavailable as error:
            if time.monotonic() > end:
                raise
            if not told:
                say(f"{error}; asking again")
                told = True
            time.sleep(_PAUSE_SECONDS)
