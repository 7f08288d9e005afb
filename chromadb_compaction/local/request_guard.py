"""Refuse the requests to the local server that a web page in the developer's browser could send.

The server listens on this machine only, but every page that is open here can reach it. A browser adds `Origin` to what
a page may change, and a page whose name resolves to 127.0.0.1 (DNS rebinding) sends that name as `Host`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
CONTROL_PREFIX: Final = "/_ministack/"
"""ministack's own endpoints, some of which change the server without a signature, for example `reset`."""
READING: Final = frozenset({"GET", "HEAD"})
POLICY_VIOLATION: Final = 1008
"""The code with which a refused WebSocket is closed."""


def guarded(app: App) -> App:
    """Return `app` behind the checks. A refused request does not reach it."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        problem = refusal(scope) if scope["type"] in {"http", "websocket"} else None
        if problem is None:
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": problem})
        else:
            body = f"the local stack refuses this request: {problem}\n".encode()
            await send(
                {
                    "type": "http.response.start",
                    "status": HTTPStatus.FORBIDDEN,
                    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))],
                }
            )
            await send({"type": "http.response.body", "body": body})

    return guard


def refusal(scope: Scope) -> str | None:
    """Return why an ASGI request is refused, or None. A missing header is allowed: browsers always send theirs."""
    headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    hosts = [value for name, value in headers if name == b"host"]
    if not all(_is_loopback(f"//{host}") for host in hosts):
        return "its Host is not this machine"
    if any(name == b"origin" for name, _ in headers):
        return "it comes from a web page"
    if scope["path"].startswith(CONTROL_PREFIX) and scope.get("method") not in READING:
        return "it would change the server itself"
    return None


def _is_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return name in LOOPBACK or name.endswith(".localhost")
