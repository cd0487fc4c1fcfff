"""/v1 of vLLM's own server: requests and answers pass through unchanged.

An answer is passed on chunk by chunk, so streaming streams. When a client disconnects, the request to vLLM is closed,
and vLLM stops generating.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import httpx
    from starlette.types import Receive, Scope, Send

# Hop-by-hop headers (RFC 9110, 7.6.1), and those that httpx sets itself.
_OF_THE_CONNECTION = {
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


async def forward(client: httpx.AsyncClient, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what is mounted at /v1 by asking `client`. Raises httpx.TransportError when no answer begins."""
    import httpx
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import StreamingResponse

    request = Request(scope, receive)
    path = scope["path"].removeprefix(scope["root_path"])
    if ".." in path.split("/"):
        # It would lead out of /v1, to vLLM's administrative endpoints.
        raise HTTPException(404)
    try:
        # The path is decoded: a %3F in it is no query.
        url = httpx.URL(f"/v1{quote(path)}", query=scope["query_string"] or None)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise HTTPException(400, f"not a URL: {error}") from error
    upstream = await client.send(
        client.build_request(
            request.method,
            url,
            headers=_passed(request.headers.raw),
            content=await request.body(),
        ),
        stream=True,
    )
    try:
        answer = StreamingResponse(upstream.aiter_raw(), upstream.status_code)
        answer.raw_headers = _passed(upstream.headers.raw)
        await answer(scope, receive, send)
    finally:
        await upstream.aclose()


def _passed(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in headers if name.lower().decode() not in _OF_THE_CONNECTION]
