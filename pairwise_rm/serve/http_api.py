"""The HTTP side: /judge, /v1/..., /healthz. Errors have OpenAI's format, so that its clients show the message.

    curl localhost:8000/judge -d '{"prompt": "Why are apples healthy?", "response_a": "Fibre.", "response_b": "Red."}'

A list of items gets a list of judgements. A bad request gets status 422 and one sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pairwise_rm.errors import InputError, StageError
from pairwise_rm.judge.items import Item, decoded, item_of
from pairwise_rm.serve.openai_proxy import forward
from pairwise_rm.serve.served_judge import ServedJudge

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.types import Receive, Scope, Send

MOST_ITEMS = 1024
"""Items of one request; more of them go into several, which several replicas can answer."""


def application(served: Callable[[], ServedJudge]) -> Starlette:
    """The ASGI application. `served` is called at each request, since the judge starts after the application."""
    import httpx
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, Route
    from starlette.websockets import WebSocketClose

    async def judge(request: Request) -> JSONResponse:
        items, listed = read_items(await request.body())
        answers = [judgement.as_dict() for judgement in await served().judge(items)]
        return JSONResponse(answers if listed else answers[0])

    async def healthz(request: Request) -> JSONResponse:
        await served().server.check()
        return JSONResponse({"status": "ok", "model": served().exported.name})

    async def v1(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        server = served().server
        try:
            await forward(server.client, scope, receive, send)
        except httpx.TransportError as error:
            await server.check()
            raise StageError(f"vLLM: the connection broke: {type(error).__name__}") from error

    def refused(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException):
            return _error(error.status_code, "invalid_request_error", error.detail, JSONResponse)
        if isinstance(error, InputError):
            return _error(422, "invalid_request_error", str(error), JSONResponse)
        if isinstance(error, UnicodeDecodeError):
            # Starlette's, of a query that is no UTF-8.
            return _error(400, "invalid_request_error", f"the URL is not UTF-8: {error.reason}", JSONResponse)
        return _error(503, "service_unavailable", str(error), JSONResponse)

    return Starlette(
        routes=[
            Route("/judge", judge, methods=["POST"]),
            Route("/healthz", healthz),
            Mount("/v1", v1),
        ],
        exception_handlers=dict.fromkeys((HTTPException, InputError, StageError, UnicodeDecodeError), refused),
    )


def read_items(body: bytes) -> tuple[list[Item], bool]:
    """The items of a request to /judge, and whether they came as a list. Raises InputError."""
    value = decoded(body, "body")
    if not isinstance(value, list):
        return [item_of(value, "body", "1")], False
    if not 0 < len(value) <= MOST_ITEMS:
        raise InputError(f"body: expected 1 to {MOST_ITEMS} items, found {len(value)}")
    return [item_of(item, f"body[{index}]", str(index + 1)) for index, item in enumerate(value)], True


def _error(status: int, kind: str, message: str, response: type[JSONResponse]) -> JSONResponse:
    return response({"error": {"message": message, "type": kind, "code": status}}, status)
