"""What every Lambda handler does around its step."""

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


def refuse(_request: AcquireLockRequest, _services: Services) -> ReleasedLock:
    raise LockHeldError("Lock chroma-main-snapshot is held by somebody")


def give_up(_request: AcquireLockRequest, _services: Services) -> ReleasedLock:
    raise LockLostError("Lock chroma-main-snapshot is no longer ours")


def echo(request: ListDeltasRequest, _services: Services) -> ListDeltasRequest:
    return request


def test_the_answer_is_what_the_step_returned_as_json() -> None:
    handler = handling.lambda_task(AcquireLockRequest, greet)

    assert handler({"execution": ARN}, None) == {"released": True, "holder": None}


def test_the_step_gets_the_services(services: Services) -> None:
    seen: list[Services] = []

    def look(_request: AcquireLockRequest, given: Services) -> ReleasedLock:
        seen.append(given)
        return ReleasedLock(released=False, holder=None)

    handling.lambda_task(AcquireLockRequest, look)({"execution": ARN}, None)

    assert seen == [services]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({}, "execution: Field required"),
        ({"execution": 7}, "execution: Input should be a valid string"),
        ({"execution": ARN, "colour": "red"}, "colour: Extra inputs are not permitted"),
        ("hello", "the event: Input should be a valid dictionary"),
        (None, "the event: "),
    ],
)
def test_an_event_that_breaks_the_model_is_refused_by_field(event: object, field: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"AcquireLockRequest: {field}"):
        handling.lambda_task(AcquireLockRequest, greet)(event, None)


def test_a_field_deep_in_the_event_is_named_by_its_path() -> None:
    event = {"execution": ARN, "pass": 1, "batch": {"key": "k", "collection": "docs", "deltas": "many", "bytes": 1}}

    with pytest.raises(InvalidRequestError, match=r"batch\.deltas: "):
        handling.parse(MergeBatchRequest, event)


def test_an_error_leaves_the_handler_under_its_own_name() -> None:
    with pytest.raises(LockHeldError, match="held by somebody"):
        handling.lambda_task(AcquireLockRequest, refuse)({"execution": ARN}, None)


def test_an_error_is_logged_once_on_one_line_with_what_it_belongs_to(log: io.StringIO) -> None:
    with pytest.raises(LockLostError):
        handling.lambda_task(AcquireLockRequest, give_up)({"execution": ARN}, None)

    (line,) = lines(log)
    assert line["level"] == "ERROR"
    assert line["message"] == "LockLostError: Lock chroma-main-snapshot is no longer ours"
    assert (line["service"], line["execution"]) == ("give_up", "first")
    assert "exception" not in line


def test_a_lock_that_is_held_is_no_error_in_the_log(log: io.StringIO) -> None:
    with pytest.raises(LockHeldError):
        handling.lambda_task(AcquireLockRequest, refuse)({"execution": ARN}, None)

    (line,) = lines(log)
    assert line["level"] == "INFO"
    assert line["message"] == "LockHeldError: Lock chroma-main-snapshot is held by somebody"
    assert (line["service"], line["execution"]) == ("refuse", "first")


def test_a_callers_mistake_is_answered_by_its_stable_name_and_logged_once(log: io.StringIO) -> None:
    handler = handling.lambda_task(AcquireLockRequest, refuse, answers=(InvalidRequestError, LockHeldError))

    answered = [handler({"execution": ARN}, None), handler({"execution": 7}, None)]

    message = "Lock chroma-main-snapshot is held by somebody"
    assert answered[0] == {"error": {"type": "LockHeld", "kind": "LockHeld", "message": message, "next_step": None}}
    assert answered[1]["error"]["kind"] == "InvalidRequest"
    assert [line["level"] for line in lines(log)] == ["WARNING", "WARNING"]


def test_an_error_that_is_not_to_be_answered_is_raised() -> None:
    with pytest.raises(LockHeldError):
        handling.lambda_task(AcquireLockRequest, refuse, answers=(InvalidRequestError,))({"execution": ARN}, None)


def test_what_the_domain_logs_carries_the_task_and_the_execution(log: io.StringIO) -> None:
    handling.lambda_task(AcquireLockRequest, greet)({"execution": ARN}, None)

    said, done = lines(log)
    assert (said["message"], said["service"], said["execution"]) == ("decided for first", "greet", "first")
    assert done["result"] == {"released": True, "holder": None}


def test_the_pass_and_the_batch_are_logged_where_the_request_has_them(log: io.StringIO) -> None:
    event = {"execution": ARN, "pass": 3, "batch": {"key": "k", "collection": "docs", "deltas": 1, "bytes": 1}}

    def merge(request: MergeBatchRequest, _services: Services) -> MergeBatchRequest:
        return request

    handling.lambda_task(MergeBatchRequest, merge)(event, None)

    assert (lines(log)[0]["pass"], lines(log)[0]["batch"]) == (3, "k")


def test_every_line_carries_the_request_by_which_lambdas_own_lines_are_found(log: io.StringIO) -> None:
    handling.lambda_task(AcquireLockRequest, greet)({"execution": ARN}, SimpleNamespace(aws_request_id="request-1"))

    assert [line["function_request_id"] for line in lines(log)] == ["request-1", "request-1"]


def test_nothing_of_one_invocation_is_logged_with_the_next(log: io.StringIO) -> None:
    handling.lambda_task(AcquireLockRequest, greet)({"execution": ARN}, None)
    with pytest.raises(InvalidRequestError):
        handling.lambda_task(ListDeltasRequest, echo)({}, None)

    *_, line = lines(log)
    assert line["service"] == "echo"
    assert "execution" not in line


def test_an_answer_that_is_not_for_the_log_stays_out_of_it(log: io.StringIO) -> None:
    handling.lambda_task(AcquireLockRequest, greet, logs_result=False)({"execution": ARN}, None)

    assert lines(log)[-1]["message"] == "greet done"
    assert "result" not in lines(log)[-1]


def test_what_a_result_says_to_operators_is_emitted_once(capsys: pytest.CaptureFixture[str]) -> None:
    def acquire(request: AcquireLockRequest, _services: Services) -> Lease:
        return Lease.starting("lock", request.execution, now=1, seconds=60)

    handling.lambda_task(AcquireLockRequest, acquire)({"execution": ARN}, None)

    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["stack"], line["execution"], line["LockContention"]) == ("dev", "first", [0])


def test_a_held_lock_is_emitted_though_the_task_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LockHeldError):
        handling.lambda_task(AcquireLockRequest, refuse)({"execution": ARN}, None)

    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["LockContention"] == [1]


def test_a_result_that_is_no_news_to_operators_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    handling.lambda_task(AcquireLockRequest, greet)({"execution": ARN}, None)
    assert capsys.readouterr().out == ""
