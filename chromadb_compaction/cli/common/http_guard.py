"""Refuse the requests to the server that carry no token, or that a web page in a browser could send."""

from __future__ import annotations

import hmac
import json
from http import HTTPStatus
from typing import Final

from chromadb_compaction.local.request_guard import App, Receive, Scope, Send, headers_named, page_refusal

_OPEN_PATHS: Final = frozenset({"/api/v2", "/api/v2/heartbeat", "/api/v2/healthcheck", "/api/v2/version"})
"""The paths that a health check may read without a token, as on ChromaDB's server."""


def guarded(app: App, token: str | None) -> App:
    """Return `app` behind the checks. A refused request does not reach it.

    With a token, every request must carry it, as `Authorization: Bearer TOKEN` or as `X-Chroma-Token: TOKEN`. Without
    one, requests of web pages are refused, which a browser lets pass to this machine.
    """

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if token is None:
            problem, status = page_refusal(scope), HTTPStatus.FORBIDDEN
        else:
            problem, status = _token_refusal(scope, token), HTTPStatus.UNAUTHORIZED
        if problem is None:
            await app(scope, receive, send)
            return
        body = json.dumps({"error": "AuthorizationError", "message": f"the request is refused: {problem}"}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return guard


def _token_refusal(scope: Scope, token: str) -> str | None:
    if scope["path"].rstrip("/") in _OPEN_PATHS and scope["method"] in {"GET", "HEAD"}:
        return None
    given = [value.removeprefix("Bearer ").strip() for value in headers_named(scope, "authorization")]
    given += headers_named(scope, "x-chroma-token")
    if any(hmac.compare_digest(each.encode(), token.encode()) for each in given):
        return None
    return "it does not carry the token of this server"
