from __future__ import annotations

import json
from datetime import UTC, datetime

from chromadb_compaction.cli.executions.failure_logs import FailureLog, LogLine, pick, text_of

FIRST = "11111111-1111-4111-8111-111111111111"
SECOND = "22222222-2222-4222-8222-222222222222"


def line(second: int, message: str, stream: str = "worker") -> LogLine:
    return LogLine("/aws/lambda/some", stream, datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), message)


def structured(level: str, message: str, execution: str = "mine", **fields: str) -> str:
    return json.dumps({"level": level, "message": message, "execution": execution, **fields})


def invocation(request: str, at: int, *messages: str, stream: str = "worker") -> list[LogLine]:
    """Return what Lambda writes of one invocation, the function's own lines between its brackets."""
    inside = [line(at, message, stream) for message in messages]
    return [
        line(at, f"START RequestId: {request} Version: $LATEST", stream),
        *inside,
        line(at, f"END RequestId: {request}", stream),
        line(at, f"REPORT RequestId: {request}\tDuration: 3 ms", stream),
    ]


def picked(lines: list[LogLine], **wanted: str) -> FailureLog:
    found = pick(lines, **{"execution": "mine", "error": "ValueError", **wanted})
    assert found is not None
    return found


def test_the_last_error_of_this_execution_explains_the_failure() -> None:
    lines = [
        *invocation(FIRST, 1, structured("ERROR", "first")),
        *invocation(SECOND, 3, structured("INFO", "begun"), structured("ERROR", "second")),
        *invocation("33333333-3333-4333-8333-333333333333", 5, structured("ERROR", "foreign", execution="other")),
    ]

    found = picked(lines)

    assert text_of(found.best) == "ERROR second"
    assert found.request == SECOND
    assert [text_of(each) for each in found.lines[:2]] == ["INFO begun", "ERROR second"]


def test_a_stack_trace_belongs_to_the_request_whose_brackets_surround_it() -> None:
    lines = [
        *invocation(FIRST, 1, structured("INFO", "ours"), "Traceback ...", "ValueError: x"),
        *invocation(SECOND, 2, structured("INFO", "theirs", execution="other"), "ValueError: y"),
    ]

    found = picked(lines)

    assert found.request == FIRST
    assert found.best.message == "ValueError: x"
    assert "ValueError: y" not in [each.message for each in found.lines]


def test_of_two_workers_at_once_the_one_that_merged_the_failed_batch_is_told() -> None:
    lines = [
        *invocation(FIRST, 2, structured("ERROR", "ValueError: a", batch="work/mine/1/batches/0000.json"), stream="a"),
        *invocation(SECOND, 2, structured("ERROR", "ValueError: b", batch="work/mine/1/batches/0001.json"), stream="b"),
    ]

    found = picked(lines, batch="work/mine/1/batches/0000.json")

    assert (found.request, found.batch) == (FIRST, "work/mine/1/batches/0000.json")


def test_a_function_that_ran_out_of_time_is_explained_by_lambdas_own_line() -> None:
    timeout = f"2026-01-01T00:15:00.000Z {FIRST} Task timed out after 900.00 seconds"

    found = picked(invocation(FIRST, 1, structured("INFO", "begun"), timeout), error="Sandbox.Timedout")

    assert found.best.message == timeout


def test_metrics_and_brackets_are_left_out() -> None:
    metrics = '{"_aws":{"Timestamp":1},"execution":"mine"}'

    found = picked(invocation(FIRST, 1, metrics, structured("ERROR", "x")))

    assert [each.message.split()[0] for each in found.lines] == ['{"level":', "REPORT"]


def test_without_lines_of_this_execution_the_last_that_names_the_error_is_told() -> None:
    found = picked([line(1, "[ERROR] ValueError: x\n"), line(2, "nothing")])

    assert found.best.message == "[ERROR] ValueError: x\n"


def test_nothing_is_invented() -> None:
    assert pick([line(1, "START"), line(2, "END")], execution="mine", error="ValueError") is None
