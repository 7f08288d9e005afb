"""Count the AWS calls of deployed functions with a relay between them and the local stack."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

_OWN_HEADERS = {"connection", "transfer-encoding", "content-length", "server", "date"}


class CallCounter:
    """The calls that passed the relay, and the relay's endpoint."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.calls: list[str] = []


@contextmanager
def counting_relay(target: str) -> Iterator[CallCounter]:
    """Serve on a free port, and forward every request unchanged to the URL `target`."""

    class Handler(_Relay):
        upstream = urlsplit(target).netloc

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        counter = CallCounter(f"http://127.0.0.1:{server.server_port}")
        Handler.counter = counter
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield counter
        finally:
            server.shutdown()
            thread.join()


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: ClassVar[str]
    counter: ClassVar[CallCounter]

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.counter.calls.append(_operation(self))
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body or None, dict(self.headers.items()))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        # The response to a HEAD states the length of a body that it does not carry.
        size = response.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815 - http.server finds methods by these names

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _operation(request: BaseHTTPRequestHandler) -> str:
    target = request.headers.get("X-Amz-Target")
    # The first part of the path is the bucket.
    path = request.path.partition("?")[0].removeprefix("/").partition("/")[2]
    return target.rpartition(".")[2] if target else f"{request.command} {path or 'bucket'}"
