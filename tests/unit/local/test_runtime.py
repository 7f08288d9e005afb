"""The Lambda runtime of the local functions, against a fake Runtime API."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from chromadb_compaction.errors import LockHeldError
from chromadb_compaction.local.runtime import LambdaContext, RuntimeApi, Tee, fail_every_event, load_handler, serve_one

EVENT = {"execution": "arn", "words": "Grüße 😀"}


class FakeRuntimeApi(HTTPServer):
    """Serves the same event every time, and keeps what is posted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeRuntimeHandler)
        self.ended = False
        self.event = json.dumps(EVENT).encode()
        self.answers: list[tuple[str, Any]] = []


class FakeRuntimeHandler(BaseHTTPRequestHandler):
    server: FakeRuntimeApi

    def do_GET(self) -> None:
        self.send_response(500 if self.server.ended else 200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", "request-1")
        self.send_header("Lambda-Runtime-Deadline-Ms", "1")
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:0:function:f")
        self.end_headers()
        self.wfile.write(self.server.event)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.answers.append((self.path.rpartition("/invocation/")[2], json.loads(body)))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def fake_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRuntimeApi]:
    for name in ("FUNCTION_NAME", "FUNCTION_VERSION", "FUNCTION_MEMORY_SIZE", "LOG_GROUP_NAME", "LOG_STREAM_NAME"):
        monkeypatch.setenv(f"AWS_LAMBDA_{name}", name.lower())
    with FakeRuntimeApi() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def api(fake_api: FakeRuntimeApi) -> RuntimeApi:
    return RuntimeApi(f"127.0.0.1:{fake_api.server_port}")


def test_a_handlers_result_is_posted_unchanged(fake_api: FakeRuntimeApi, api: RuntimeApi) -> None:
    serve_one(api, lambda event, _context: {"got": event})

    assert fake_api.answers == [("request-1/response", {"got": EVENT})]


def test_a_handlers_exception_is_posted_with_its_class_name_and_stack(
    fake_api: FakeRuntimeApi, api: RuntimeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    def handler(_event: object, _context: object) -> None:
        raise LockHeldError("held by somebody")

    serve_one(api, handler)

    [(path, error)] = fake_api.answers
    assert path == "request-1/error"
    assert (error["errorType"], error["errorMessage"]) == ("LockHeldError", "held by somebody")
    assert any(__name__.rpartition(".")[2] in frame for frame in error["stackTrace"])
    assert "LockHeldError: held by somebody" in capsys.readouterr().err


def test_an_event_that_is_nested_too_deeply_fails_and_the_next_is_answered(
    fake_api: FakeRuntimeApi, api: RuntimeApi
) -> None:
    fake_api.event = b"[" * 100_000 + b"]" * 100_000
    serve_one(api, lambda event, _context: event)
    fake_api.event = b"1"
    serve_one(api, lambda event, _context: event)

    [(path, error), answered] = fake_api.answers
    assert (path, error["errorType"]) == ("request-1/error", "RecursionError")
    assert answered == ("request-1/response", 1)


def test_a_result_that_is_not_json_is_an_error_of_the_function(fake_api: FakeRuntimeApi, api: RuntimeApi) -> None:
    serve_one(api, lambda _event, _context: object())

    [(path, error)] = fake_api.answers
    assert path == "request-1/error"
    assert error["errorType"] == "TypeError"


def test_a_handler_that_cannot_be_loaded_fails_every_event_with_the_reason(
    fake_api: FakeRuntimeApi, api: RuntimeApi
) -> None:
    with pytest.raises(ModuleNotFoundError) as missing:
        load_handler("tasks.no_such_task.handler")

    serve_one(api, fail_every_event(missing.value))

    [(_, error)] = fake_api.answers
    assert error["errorType"] == "ModuleNotFoundError"
    assert "no_such_task" in error["errorMessage"]


def test_the_context_has_the_attributes_of_lambdas_context(api: RuntimeApi) -> None:
    seen: list[LambdaContext] = []
    serve_one(api, lambda _event, context: seen.append(context))

    [context] = seen
    assert context.function_name == "function_name"
    assert context.aws_request_id == "request-1"
    assert context.invoked_function_arn.endswith(":function:f")
    assert context.get_remaining_time_in_millis() == 0


def test_the_end_of_the_environment_ends_the_loop(fake_api: FakeRuntimeApi, api: RuntimeApi) -> None:
    fake_api.ended = True

    with pytest.raises(ConnectionError):
        serve_one(api, lambda event, _context: event)


def test_what_is_written_to_a_tee_reaches_both_streams() -> None:
    server, file = io.StringIO(), io.StringIO()
    tee = Tee(server, file)

    print("a line", file=tee, flush=True)

    assert server.getvalue() == file.getvalue() == "a line\n"
    assert tee.writable()
