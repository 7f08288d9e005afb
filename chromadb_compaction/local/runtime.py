"""The Lambda runtime that the bootstrap of every local function runs.

It uses the Lambda Runtime API as AWS's own Python runtime does, so that Step Functions gets true error types, stack
traces and logs. It imports nothing heavy, because each cold start of a worker pays for this module.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

PREFIX = "/2018-06-01/runtime/invocation"
Handler = Callable[[Any, "LambdaContext"], Any]


class Invocation(NamedTuple):
    """One event as JSON, and the headers that came with it."""

    body: bytes
    headers: Message

    @property
    def request_id(self) -> str:
        """The id that the response must name."""
        return self.headers["Lambda-Runtime-Aws-Request-Id"]


class LambdaContext:
    """The second argument of every handler, with the attributes that AWS documents."""

    def __init__(self, headers: Message) -> None:
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.aws_request_id: str = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn: str = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds left before the function's timeout."""
        return max(0, self._deadline_ms - int(time.time() * 1000))


class RuntimeApi:
    """The three calls of the Runtime API.

    Each call opens a new connection. On a reused one ministack sends headers and body in two packets, and the second
    waits 40 ms for the delayed acknowledgement of the first.

    Args:
        address: Host and port of the API, as in `AWS_LAMBDA_RUNTIME_API`.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def next(self) -> Invocation:
        """Wait for the next event. Raises ConnectionError when this environment must end."""
        response, body = self._call("GET", "next")
        if response.status != http.HTTPStatus.OK:
            raise ConnectionError(f"the Runtime API answered {response.status}")
        return Invocation(body, response.headers)

    def respond(self, request_id: str, body: bytes) -> None:
        """Post a handler's result."""
        self._call("POST", f"{request_id}/response", body)

    def fail(self, request_id: str, error: BaseException) -> None:
        """Post a handler's exception."""
        self._call("POST", f"{request_id}/error", describe(error))

    def _call(self, method: str, path: str, body: bytes | None = None) -> tuple[http.client.HTTPResponse, bytes]:
        with contextlib.closing(http.client.HTTPConnection(self._address)) as connection:
            connection.request(method, f"{PREFIX}/{path}", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response, response.read()


class Tee:
    """A text stream that writes to two streams: the server's, which keeps logs per invocation, and a file to read."""

    def __init__(self, stream: IO[str], copy: IO[str]) -> None:
        self._stream = stream
        self._copy = copy

    def write(self, text: str) -> int:
        """Write to both."""
        self._copy.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        """Flush both."""
        self._copy.flush()
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self._stream, name)


def describe(error: BaseException) -> bytes:
    """Return an exception as AWS's Python runtime reports it."""
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
    return json.dumps(
        {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": frames}, ensure_ascii=False
    ).encode()


def load_handler(name: str) -> Handler:
    """Import e.g. `tasks.merge_batch.handler`."""
    module, _, attribute = name.rpartition(".")
    handler: Handler = getattr(importlib.import_module(module), attribute)
    return handler


def fail_every_event(error: Exception) -> Handler:
    """Return a handler that raises the error with which the real handler failed to load."""

    def handler(_event: object, _context: LambdaContext) -> NoReturn:
        raise error

    return handler


def serve_one(api: RuntimeApi, handler: Handler) -> None:
    """Take one event, run the handler, and post its result or its exception."""
    invocation = api.next()
    try:
        # Parsed here, so that an event that is nested too deeply is an error of this invocation alone.
        result = handler(json.loads(invocation.body), LambdaContext(invocation.headers))
        body = json.dumps(result, ensure_ascii=False).encode()
    except Exception as error:  # noqa: BLE001 - a runtime reports every exception of a handler
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        api.fail(invocation.request_id, error)
    else:
        sys.stdout.flush()
        api.respond(invocation.request_id, body)


def prepare_environment() -> None:
    """Set up what a Lambda environment has: a private /tmp and a log. Make this worker end with its server."""
    function = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    os.environ["AWS_LAMBDA_LOG_GROUP_NAME"] = f"/aws/lambda/{function}"
    os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"] = "on-demand"
    os.environ["AWS_EXECUTION_ENV"] = f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}"
    private = Path(os.environ["LOCAL_STACK_WORKERS"], f"{function}-{os.getpid()}")
    private.mkdir(parents=True)
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(private)
    os.environ["CHROMADB_CACHE_DIR"] = str(private / "chromadb-compaction")
    log = Path(os.environ["LOCAL_STACK_LOGS"], f"{function}.log").open("a", encoding="utf-8")  # noqa: SIM115 - for life
    sys.stdout, sys.stderr = Tee(sys.stdout, log), Tee(sys.stderr, log)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()


def end_with_parent(parent: int) -> None:
    """End this process when the server has died, so that no worker outlives its stack."""
    while os.getppid() == parent:
        time.sleep(1)
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
    os._exit(1)


def record_calls_if_asked() -> None:
    """Log this worker's AWS calls if the stack was deployed with LOCAL_STACK_CALLS."""
    if directory := os.environ.get("LOCAL_STACK_CALLS"):
        from chromadb_compaction.local.call_log import record_calls

        record_calls(Path(directory), os.environ["AWS_LAMBDA_FUNCTION_NAME"])


def main() -> None:
    """Serve events until the server ends."""
    prepare_environment()
    record_calls_if_asked()
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    loaded = True
    try:
        handler = load_handler(os.environ["_HANDLER"])
    except Exception as error:  # noqa: BLE001 - the caller must see every error of an import
        handler, loaded = fail_every_event(error), False
    with contextlib.suppress(ConnectionError, http.client.HTTPException):
        serve_one(api, handler)
        while loaded:
            serve_one(api, handler)


if __name__ == "__main__":
    main()
