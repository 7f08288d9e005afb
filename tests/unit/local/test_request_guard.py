"""The local server refuses what a web page could send, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chromadb_compaction.local.request_guard import guarded, refusal


def request(path: str = "/bucket/key", method: str = "PUT", **headers: str) -> dict[str, Any]:
    named = {"host": "127.0.0.1:4566", **headers}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }


@pytest.mark.parametrize("host", ["127.0.0.1:4566", "localhost:4566", "[::1]:4566", "bucket.localhost", "LOCALHOST"])
def test_a_program_on_this_machine_is_answered(host: str) -> None:
    assert refusal(request(host=host)) is None


@pytest.mark.parametrize("origin", ["http://page.example", "null", "http://127.0.0.1:4566"])
@pytest.mark.parametrize("method", ["PUT", "POST", "OPTIONS", "GET"])
def test_a_web_page_is_refused(origin: str, method: str) -> None:
    assert refusal(request(method=method, origin=origin)) == "it comes from a web page"


@pytest.mark.parametrize(
    "host",
    ["page.example", "127.0.0.1.page.example", "127.0.0.1@page.example", "10.0.0.1:80", "", "[::1", "localhost."],
)
def test_a_name_that_is_not_this_machines_is_refused(host: str) -> None:
    assert refusal(request(host=host)) == "its Host is not this machine"


@pytest.mark.parametrize("path", ["/_ministack/reset", "/_ministack/config"])
def test_the_servers_own_state_cannot_be_changed(path: str) -> None:
    assert refusal(request(path, "POST")) == "it would change the server itself"
    assert refusal(request("/_ministack/health", "GET")) is None


def test_a_refused_request_does_not_reach_the_server() -> None:
    seen: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    async def send_all() -> None:
        guard = guarded(app)
        await guard(request(origin="http://page.example"), receive, send)
        await guard({**request(origin="http://page.example"), "type": "websocket"}, receive, send)
        await guard(request(), receive, send)
        await guard({"type": "lifespan"}, receive, send)

    asyncio.run(send_all())

    assert seen == ["http", "lifespan"]
    assert [message.get("status", message.get("code")) for message in sent] == [403, None, 1008]
    assert not any(b"access-control" in name for name, _ in sent[0]["headers"])
