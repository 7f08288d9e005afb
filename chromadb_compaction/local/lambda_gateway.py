"""A port at which a Step Functions engine beside the stack calls the stack's functions.

Such an engine signs its calls with credentials of its own (AWS's own engine ignores those that it is given:
https://docs.aws.amazon.com/step-functions/latest/dg/sfn-local-config-options.html), which the server refuses. The
gateway passes on calls of functions, and nothing else, signed by the admin.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from chromadb_compaction.local.request_guard import is_loopback
from chromadb_compaction.local.server import ADMIN_KEY, HOST, REGION

INVOKE: Final = re.compile(r"/2015-03-31/functions/[^/]+/invocations")
PASSED_ON: Final = frozenset({"content-type", "x-amz-invocation-type", "x-amz-log-type", "x-amz-client-context"})
"""The headers of a call that Lambda reads."""
ANSWERED: Final = ("content-type", "x-amz-function-error", "x-amz-executed-version", "x-amzn-errortype")
"""The headers of a response that engines read."""
SECONDS: Final = 960
"""More than the timeout of any function."""


class Gateway:
    """The gateway of one server.

    Args:
        endpoint: The server's URL.
        secret: The admin's secret access key.
    """

    def __init__(self, endpoint: str, secret: str) -> None:
        self._endpoint = endpoint
        self._signer = SigV4Auth(Credentials(ADMIN_KEY, secret), "lambda", REGION)

    def serve(self, port: int) -> ThreadingHTTPServer:
        """Answer calls on `port` of this machine, in threads. Raises OSError if the port is taken."""
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                passed = {name: value for name, value in self.headers.items() if name.lower() in PASSED_ON}
                with contextlib.suppress(ConnectionError):  # an engine closes the connection of a task that it abandons
                    self._answer(self._refusal() or gateway.call(self.path, body, passed))

            def _refusal(self) -> tuple[int, dict[str, str], bytes] | None:
                # A page in a browser sends an Origin, or its own name as Host.
                if "Origin" in self.headers or not is_loopback(f"//{self.headers.get('Host', '')}"):
                    return HTTPStatus.FORBIDDEN, {}, b"this request may come from a web page"
                if not INVOKE.fullmatch(self.path):
                    return HTTPStatus.FORBIDDEN, {}, b"only functions can be called here"
                return None

            def _answer(self, answer: tuple[int, dict[str, str], bytes]) -> None:
                status, headers, body = answer
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Log nothing: the functions have logs."""

        server = ThreadingHTTPServer((HOST, port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def call(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Call a function and return the status, the headers and the body of the response."""
        request = AWSRequest(method="POST", url=f"{self._endpoint}{path}", data=body, headers=headers)
        self._signer.add_auth(request)
        connection = http.client.HTTPConnection(urlsplit(self._endpoint).netloc, timeout=SECONDS)
        try:
            connection.request("POST", path, body, dict(request.headers.items()))
            response = connection.getresponse()
            answered = {name: value for name in ANSWERED if (value := response.getheader(name))}
            return response.status, answered, response.read()
        finally:
            connection.close()
