from __future__ import annotations

import json
from datetime import UTC, datetime

from chromadb_compaction.cli.executions.failure_logs import FailureLog, LogLine, pick_invocation, text_of

FIRST = "11111111-1111-4111-8111-111111111111"
SECOND = "22222222-2222-4222-8222-222222222222"
THIRD = "33333333-3333-4333-8333-333333333333"


def line(second: int, message: str, stream: str = "worker") -> LogLine:
    return LogLine("/aws/lambda/some", stream, datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), message)


def structured(level: str, message: str, execution: str = "mine", **fields: str) -> str:
    return json.dumps({"level": level, "message": message, "execution": execution, **fields})


def invocation(request: str, at: int, *messages: str, stream: str = "worker") -> list[LogLine]:
    """Return the log lines of one invocation: the function's messages between the START and END of Lambda."""
    inside = [line(at, message, stream) for message in messages]
    return [
        line(at, f"START RequestId: {request} Version: $LATEST", stream),
        *inside,
        line(at, f"END RequestId: {request}", stream),
        line(at, f"REPORT RequestId: {request}\tDuration: 3 ms", stream),
    ]


def picked_log(lines: list[LogLine], **wanted: str) -> FailureLog:
    found = pick_invocation(lines, **{"execution": "mine", "error": "ValueError", **wanted})
    assert found is not None
    return found


def test_the_last_error_of_this_execution_explains_the_failure() -> None:
    lines = [
        *invocation(FIRST, 1, structured("ERROR", "first")),
        *invocation(SECOND, 3, structured("INFO", "started"), structured("ERROR", "second")),
        *invocation(THIRD, 5, structured("ERROR", "of another execution", execution="other")),
    ]

    found = picked_log(lines)

    assert text_of(found.best) == "ERROR second"
    assert found.request == SECOND
    assert [text_of(each) for each in found.lines[:2]] == ["INFO started", "ERROR second"]


def test_a_stack_trace_belongs_to_the_request_that_has_started_but_not_ended() -> None:
    lines = [
        *invocation(FIRST, 1, structured("INFO", "of this execution"), "Traceback ...", "ValueError: x"),
        *invocation(SECOND, 2, structured("INFO", "of another execution", execution="other"), "ValueError: y"),
    ]

    found = picked_log(lines)

    assert found.request == FIRST
    assert found.best.message == "ValueError: x"
    assert "ValueError: y" not in [each.message for each in found.lines]


def test_of_two_concurrent_invocations_the_one_for_the_failed_batch_is_picked() -> None:
    lines = [
        *invocation(FIRST, 2, structured("ERROR", "ValueError: a", batch="work/mine/1/batches/0000.json"), stream="a"),
        *invocation(SECOND, 2, structured("ERROR", "ValueError: b", batch="work/mine/1/batches/0001.json"), stream="b"),
    ]

    found = picked_log(lines, batch="work/mine/1/batches/0000.json")

    assert (found.request, found.batch) == (FIRST, "work/mine/1/batches/0000.json")


def test_a_timeout_is_explained_by_the_line_of_lambda() -> None:
    timeout = f"2026-01-01T00:15:00.000Z {FIRST} Task timed out after 900.00 seconds"

    found = picked_log(invocation(FIRST, 1, structured("INFO", "started"), timeout), error="Sandbox.Timedout")

    assert found.best.message == timeout


def test_metrics_and_start_and_end_lines_are_left_out() -> None:
    metrics = '{"_aws":{"Timestamp":1},"execution":"mine"}'

    found = picked_log(invocation(FIRST, 1, metrics, structured("ERROR", "x")))

    assert [each.message.split()[0] for each in found.lines] == ['{"level":', "REPORT"]


def test_without_lines_of_this_execution_the_last_line_with_the_error_is_picked() -> None:
    found = picked_log([line(1, "[ERROR] ValueError: x\n"), line(2, "nothing")])

    assert found.best.message == "[ERROR] ValueError: x\n"


def test_lines_without_the_execution_and_the_error_are_not_picked() -> None:
    assert pick_invocation([line(1, "START"), line(2, "END")], execution="mine", error="ValueError") is None
