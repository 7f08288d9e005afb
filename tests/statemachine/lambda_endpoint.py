"""A server of one call of the Lambda API, Invoke: what a Step Functions engine needs to run tasks anywhere."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What a function gave. `failed`: it raised, and `payload` holds errorType and errorMessage.

    `refusal` is set when Lambda itself refused the call, e.g. TooManyRequestsException.
    """

    payload: Any
    failed: bool = False
    refusal: str | None = None


Invoke = Callable[[str, Any], Answer]
"""Takes a function's name and its event."""


def function_of(path: str) -> str:
    """Return the function's name in a request path, which holds the name or the whole ARN."""
    return urllib.parse.unquote(path.split("/")[3]).rpartition(":")[2]


@contextmanager
def lambda_endpoint(invoke: Invoke, port: int = 0) -> Iterator[int]:
    """Serve `invoke` on 127.0.0.1 and give the port. `port` 0: any free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            answer = invoke(function_of(self.path), event)
            with contextlib.suppress(ConnectionError):  # an engine that gave the task up has hung up
                self._respond(answer)

        def _respond(self, answer: Answer) -> None:
            body = json.dumps(answer.payload).encode()
            self.send_response(HTTPStatus.TOO_MANY_REQUESTS if answer.refusal else HTTPStatus.OK)
            if answer.refusal:
                self.send_header("x-amzn-ErrorType", answer.refusal)
            if answer.failed:
                self.send_header("X-Amz-Function-Error", "Unhandled")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
