"""The handling around every step: parsing, log lines, metrics and errors."""

import io
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from chromadb_compaction.errors import InvalidRequestError, LockHeldError, LockLostError
from chromadb_compaction.lease import Lease
from chromadb_compaction.messages import AcquireLockRequest, ListDeltasRequest, MergeBatchRequest, ReleasedLock
from chromadb_compaction.ports import Services
from tasks import handling
from tests.fakes.services import EXECUTION, new_fakes

ARN = EXECUTION


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    services = new_fakes().services
    monkeypatch.setattr(handling, "services", lambda: services)
    return services


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    log = io.StringIO()
    monkeypatch.setattr(handling.logger.registered_handler, "stream", log)
    return log


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def greet(request: AcquireLockRequest, _services: Services) -> ReleasedLock:
    logging.getLogger("chromadb_compaction.steps.anything").info("decided for %s", request.execution[-5:])
    return ReleasedLock(released=True, holder=None)


def raise_lock_held(_request: AcquireLockRequest, _services: Services) -> ReleasedLock:
    raise LockHeldError("Lock chroma-main-snapshot is held by somebody")


def raise_lock_lost(_request: AcquireLockRequest, _services: Services) -> ReleasedLock:
    raise LockLostError("Lock chroma-main-snapshot is no longer ours")


def echo(request: ListDeltasRequest, _services: Services) -> ListDeltasRequest:
    return request


def test_the_handler_returns_the_steps_result_as_json() -> None:
    handler = handling.lambda_task(AcquireLockRequest, greet)

    assert handler({"execution": ARN}, None) == {"released": True, "holder": None}


def test_the_step_gets_the_services(services: Services) -> None:
    seen: list[Services] = []

    def record(_request: AcquireLockRequest, given: Services) -> ReleasedLock:
        seen.append(given)
        return ReleasedLock(released=False, holder=None)

    handling.lambda_task(AcquireLockRequest, record)({"execution": ARN}, None)

    assert seen == [services]


def test_the_step_knows_when_the_function_is_killed(services: Services) -> None:
    seen: list[float | None] = []

    def record(_request: AcquireLockRequest, given: Services) -> ReleasedLock:
        seen.append(given.deadline)
        return ReleasedLock(released=False, holder=None)

    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 900_000)
    handling.lambda_task(AcquireLockRequest, record)({"execution": ARN}, context)

    assert seen == [services.clock() + 900]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({}, "execution: Field required"),
        ({"execution": 7}, "execution: Input should be a valid string"),
        ("hello", "the event: Input should be a valid dictionary"),
        (None, "the event: "),
    ],
)
def test_an_event_that_breaks_the_model_is_refused_with_the_field(event: object, field: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"AcquireLockRequest: {field}"):
        handling.lambda_task(AcquireLockRequest, greet)(event, None)


def test_a_field_deep_in_the_event_is_named_by_its_path() -> None:
    event = {"execution": ARN, "pass": 1, "batch": {"key": "k", "collection": "docs", "deltas": "many", "bytes": 1}}

    with pytest.raises(InvalidRequestError, match=r"batch\.deltas: "):
        handling.parse(MergeBatchRequest, event)


def test_an_error_leaves_the_handler_under_its_own_name() -> None:
    with pytest.raises(LockHeldError, match="held by somebody"):
        handling.lambda_task(AcquireLockRequest, raise_lock_held)({"execution": ARN}, None)


def test_an_error_is_logged_once_with_its_task_and_execution(log: io.StringIO) -> None:
    with pytest.raises(LockLostError):
        handling.lambda_task(AcquireLockRequest, raise_lock_lost)({"execution": ARN}, None)

    (line,) = lines(log)
    assert line["level"] == "ERROR"
    assert line["message"] == "LockLostError: Lock chroma-main-snapshot is no longer ours"
    assert (line["service"], line["execution"]) == ("raise_lock_lost", "first")
    assert "exception" not in line


def test_a_held_lock_is_not_logged_as_an_error(log: io.StringIO) -> None:
    with pytest.raises(LockHeldError):
        handling.lambda_task(AcquireLockRequest, raise_lock_held)({"execution": ARN}, None)

    (line,) = lines(log)
    assert line["level"] == "INFO"
    assert line["message"] == "LockHeldError: Lock chroma-main-snapshot is held by somebody"
    assert (line["service"], line["execution"]) == ("raise_lock_held", "first")


def test_an_error_in_answers_is_returned_by_its_kind_and_logged_once(log: io.StringIO) -> None:
    handler = handling.lambda_task(AcquireLockRequest, raise_lock_held, answers=(InvalidRequestError, LockHeldError))

    answered = [handler({"execution": ARN}, None), handler({"execution": 7}, None)]

    message = "Lock chroma-main-snapshot is held by somebody"
    assert answered[0] == {"error": {"type": "LockHeld", "kind": "LockHeld", "message": message, "next_step": None}}
    assert answered[1]["error"]["kind"] == answered[1]["error"]["type"] == "InvalidRequest"
    assert answered[1]["error"]["next_step"] == "correct the event"
    assert [line["level"] for line in lines(log)] == ["WARNING", "WARNING"]


def test_an_error_not_in_answers_is_raised() -> None:
    with pytest.raises(LockHeldError):
        handling.lambda_task(AcquireLockRequest, raise_lock_held, answers=(InvalidRequestError,))(
            {"execution": ARN}, None
        )


def test_log_lines_of_the_package_have_the_task_and_the_execution(log: io.StringIO) -> None:
    handling.lambda_task(AcquireLockRequest, greet)({"execution": ARN}, None)

    logged, done = lines(log)
    assert (logged["message"], logged["service"], logged["execution"]) == ("decided for first", "greet", "first")
    assert done["result"] == {"released": True, "holder": None}


def test_the_pass_and_the_batch_are_logged_if_the_request_has_them(log: io.StringIO) -> None:
    event = {"execution": ARN, "pass": 3, "batch": {"key": "k", "collection": "docs", "deltas": 1, "bytes": 1}}

    def merge(request: MergeBatchRequest, _services: Services) -> MergeBatchRequest:
        return request

    handling.lambda_task(MergeBatchRequest, merge)(event, None)

    assert (lines(log)[0]["pass"], lines(log)[0]["batch"]) == (3, "k")


def test_every_line_has_the_request_id_of_lambdas_own_lines(log: io.StringIO) -> None:
    handling.lambda_task(AcquireLockRequest, greet)({"execution": ARN}, SimpleNamespace(aws_request_id="request-1"))

    assert [line["function_request_id"] for line in lines(log)] == ["request-1", "request-1"]


def test_nothing_of_one_invocation_is_logged_with_the_next(log: io.StringIO) -> None:
    handling.lambda_task(AcquireLockRequest, greet)({"execution": ARN}, None)
    with pytest.raises(InvalidRequestError):
        handling.lambda_task(ListDeltasRequest, echo)({}, None)

    *_, line = lines(log)
    assert line["service"] == "echo"
    assert "execution" not in line


def test_a_result_can_be_kept_out_of_the_log(log: io.StringIO) -> None:
    handling.lambda_task(AcquireLockRequest, greet, logs_result=False)({"execution": ARN}, None)

    assert lines(log)[-1]["message"] == "greet done"
    assert "result" not in lines(log)[-1]


def test_the_metrics_of_a_result_are_emitted_once(capsys: pytest.CaptureFixture[str]) -> None:
    def acquire(request: AcquireLockRequest, _services: Services) -> Lease:
        return Lease.starting("lock", request.execution, now=1, seconds=60)

    handling.lambda_task(AcquireLockRequest, acquire)({"execution": ARN}, None)

    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["stack"], line["execution"], line["LockContention"]) == ("dev", "first", [0])


def test_the_metrics_of_an_error_are_emitted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LockHeldError):
        handling.lambda_task(AcquireLockRequest, raise_lock_held)({"execution": ARN}, None)

    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["LockContention"] == [1]


def test_a_result_without_metrics_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    handling.lambda_task(AcquireLockRequest, greet)({"execution": ARN}, None)
    assert capsys.readouterr().out == ""


def test_no_control_character_of_a_key_reaches_the_log(log: io.StringIO) -> None:
    handling.logger.warning("odd \x1b[2J\x9b31m\u202e")

    assert log.getvalue().isascii()
    assert [line["message"] for line in lines(log)] == ["odd \x1b[2J\x9b31m\u202e"]
