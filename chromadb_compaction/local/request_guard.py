"""Refuse the requests to a server on this machine that a web page in the developer's browser could send.

The server listens on this machine only, but every page that is open here can reach it. A browser adds `Origin` to what
a page may change, and a page whose name resolves to 127.0.0.1 (DNS rebinding) sends that name as `Host`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
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
    """Return why an ASGI request is refused, or None."""
    problem = page_refusal(scope)
    if problem is not None:
        return problem
    if scope["path"].startswith(CONTROL_PREFIX) and scope.get("method") not in READING:
        return "it would change the server itself"
    return None


def headers_named(scope: Scope, name: str) -> Iterator[str]:
    """Yield the values of a header, whose name is given in lower case."""
    return (value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name.encode())


def page_refusal(scope: Scope) -> str | None:
    """Return why a request may come from a web page, or None. A missing header is allowed: browsers send theirs."""
    if not all(is_loopback(f"//{host}") for host in headers_named(scope, "host")):
        return "its Host is not this machine"
    if any(True for _ in headers_named(scope, "origin")):
        return "it comes from a web page"
    return None


def is_loopback(url: str) -> bool:
    """Return whether the host of a URL, or of `//host:port`, is this machine."""
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return name in LOOPBACK or name.endswith(".localhost")
