"""A server for one call of the Lambda API, Invoke, with which a Step Functions engine runs tasks anywhere."""

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


class LambdaResponse(NamedTuple):
    """The response of a function, or of Lambda itself.

    Attributes:
        failed: The function raised, and `payload` holds errorType and errorMessage.
        refusal: The error of Lambda itself if it refused the call, e.g. TooManyRequestsException.
    """

    payload: Any
    failed: bool = False
    refusal: str | None = None


Invoke = Callable[[str, Any], LambdaResponse]
"""Takes a function's name and its event."""


def function_of(path: str) -> str:
    """Return the function in a request path, with its version if it has one: a name, or what follows it in an ARN."""
    named = urllib.parse.unquote(path.split("/")[3])
    return named.partition(":function:")[2] or named


@contextmanager
def lambda_endpoint(invoke: Invoke, port: int = 0) -> Iterator[int]:
    """Serve `invoke` on 127.0.0.1 and yield the port. `port` 0 selects a free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            response = invoke(function_of(self.path), event)
            with contextlib.suppress(ConnectionError):  # an engine closes the connection of a task that it abandons
                self._respond(response)

        def _respond(self, response: LambdaResponse) -> None:
            body = json.dumps(response.payload).encode()
            self.send_response(HTTPStatus.TOO_MANY_REQUESTS if response.refusal else HTTPStatus.OK)
            if response.refusal:
                self.send_header("x-amzn-ErrorType", response.refusal)
            if response.failed:
                self.send_header("X-Amz-Function-Error", "Unhandled")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Log nothing to the output of the tests."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
