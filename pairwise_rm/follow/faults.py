"""What the API server refuses, in a sentence: which verb on which resource, in which namespace of which cluster."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator

from pairwise_rm.errors import StageError
from pairwise_rm.follow.kubeconfig import Place

_USER = re.compile(r'User "([^"]+)"')
_NO_LOG_YET = "waiting to start"
_PASSING = (429, 500, 502, 503, 504)


class OutOfReach(StageError):
    """No answer, or none for the moment: what follows a run for hours asks again."""


class Refused(StageError):
    """The account may not do this."""


class Missing(StageError):
    """There is no such object."""


@contextlib.contextmanager
def explained(place: Place, verb: str, resource: str, everywhere: bool = False) -> Iterator[None]:
    """Turns what the kubernetes client raises in the block into one of ours, with a sentence for the user."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    where = "all namespaces" if everywhere else f"namespace {place.namespace}"
    try:
        yield
    except ApiException as error:
        status, message = _answer(error)
        if status == 401:
            raise StageError(f"{place}: the credentials are refused (401); log in to the cluster again") from error
        if status == 403:
            user = _USER.search(message)
            flag = "-A" if everywhere else f"-n {place.namespace}"
            raise Refused(
                f"no permission to {verb} {resource} in {where}{f' as {user[1]}' if user else ''}; ask the cluster's "
                f"administrator for a Role with it (`kubectl auth can-i {verb} {resource} {flag}` checks)"
            ) from error
        if status == 404 or (status == 400 and _NO_LOG_YET in message):
            raise Missing(message or f"{resource}: not found") from error
        if status in _PASSING:
            raise OutOfReach(f"{place}: the API server answers {status}: {message}") from error
        if not status:
            raise OutOfReach(f"{place}: {_certificate(message)}") from error
        raise StageError(f"{verb} {resource} in {where}: {message} ({status})") from error
    except (HTTPError, TimeoutError, ConnectionError) as error:
        raise OutOfReach(f"{place}: out of reach: {_short(error)}") from error


def _answer(error: BaseException) -> tuple[int, str]:
    """Status and message of an answer; a refused websocket carries them in the exception that it came from."""
    status, body = getattr(error, "status", 0), getattr(error, "body", None)
    handshake = error.__context__
    if not status and (code := getattr(handshake, "status_code", None)):
        status, body = code, getattr(handshake, "resp_body", None)
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        message = text or getattr(error, "reason", "") or ""  # not every proxy answers in JSON
    return int(status or 0), " ".join(str(message).split())


def _certificate(message: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return "its certificate is not one that the kubeconfig's certificate-authority has signed"
    return f"out of reach: {message}"


def _short(error: BaseException) -> str:
    text = str(error)
    if found := re.search(r"\[Errno -?\d+\] (.+?)(?:'?\)|$)", text):
        return found[1]
    if "timed out" in text.lower():
        return "no answer in time"
    return " ".join(text.split())
