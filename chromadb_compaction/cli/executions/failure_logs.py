"""Log lines of the one Lambda invocation that failed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from chromadb_compaction.aws.logs import log_events
from chromadb_compaction.cli.executions.timeline import StateVisit

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

FUNCTIONS = {
    "AcquireLock": "acquire-lock",
    "ListDeltas": "list-deltas",
    "DownloadSnapshot": "compactor",
    "MergeBatches": "merge-batch",
    "MergeBatch": "merge-batch",
    "FoldPartitions": "fold-partitions",
    "FoldPartition": "fold-partitions",
    "UploadSnapshot": "compactor",
    "CleanUp": "clean-up",
    "ReleaseLock": "release-lock",
}
_MARGIN = timedelta(seconds=30)
"""The logs have their own clock, and a function often logs the error just before the failure."""

_REQUEST = re.compile(r'(?:RequestId: |"(?:function_request_id|requestId)": ?")([0-9a-f-]{36})')
_PLATFORM = re.compile(r'(START|END|INIT_START)\b|\{"_aws"|\{"time":.*"type": ?"platform\.(?!report|runtimeDone)')
"""Lines that explain nothing: metrics, and the start and end that Lambda logs."""


class LogLine(NamedTuple):
    """One line of a function's log. `message` is the raw text, `stream` the log stream of one worker."""

    group: str
    stream: str
    at: datetime
    message: str


class FailureLog(NamedTuple):
    """The log of one failed invocation: its lines in order, and the `best` one to explain the failure."""

    group: str
    request: str | None
    batch: str | None
    best: LogLine
    lines: tuple[LogLine, ...]


def failure_log(client: CloudWatchLogsClient, visit: StateVisit, execution: str) -> FailureLog | None:
    """Return the log of the visit's last failed invocation for `execution` (its ARN).

    Return None if there are no such lines, or if the logs cannot be read.
    """
    group = f"/aws/lambda/{_function(visit, execution)}"
    last = visit.failures[-1]
    lines = [
        LogLine(
            group,
            event.get("logStreamName", ""),
            datetime.fromtimestamp(event["timestamp"] / 1000, UTC),
            event["message"].rstrip(),
        )
        for event in log_events(client, group, visit.entered - _MARGIN, last.at + _MARGIN)
    ]
    return pick_invocation(lines, execution=execution.rpartition(":")[2], error=last.error, batch=visit.failed_batch)


def pick_invocation(
    lines: Iterable[LogLine], *, execution: str, error: str, batch: str | None = None
) -> FailureLog | None:
    """Return the log of the invocation that fits the failure best.

    An invocation for the same batch comes first, then one that logged the error, then the latest. Without any
    invocation of `execution`, all that logged the error are considered.
    """
    invocations = _by_request(lines)
    of_execution = [each for each in invocations if _mentions(each, execution)]
    candidates = of_execution or [each for each in invocations if _mentions(each, error)]
    if not candidates:
        return None

    def fit(invocation: Sequence[LogLine]) -> tuple[bool, bool, datetime]:
        return bool(batch) and _mentions(invocation, str(batch)), _mentions(invocation, error), invocation[-1].at

    chosen = max(candidates, key=fit)
    shown = tuple(line for line in chosen if not _PLATFORM.match(line.message)) or tuple(chosen)
    return FailureLog(
        group=chosen[0].group,
        request=next((found for line in chosen if (found := _request(line))), None),
        batch=next((found for line in shown if (found := _field(line, "batch"))), batch),
        best=_best(shown, error),
        lines=shown,
    )


def text_of(line: LogLine) -> str:
    """Return level and message of a structured line, or the raw text of any other."""
    message = _field(line, "message")
    return f"{_field(line, 'level') or ''} {message}".strip() if message else line.message


def message_of(line: LogLine) -> str:
    """Return the message of a structured line, or the raw text of any other."""
    return _field(line, "message") or line.message.strip()


def _by_request(lines: Iterable[LogLine]) -> list[list[LogLine]]:
    """Group the lines by invocation. A line without a request id belongs to the last request of its stream."""
    found: dict[tuple[str, str | None], list[LogLine]] = {}
    current: dict[str, str | None] = {}
    for line in sorted(lines, key=lambda each: each.at):
        request = _request(line) or current.get(line.stream)
        current[line.stream] = None if line.message.startswith("REPORT ") else request
        found.setdefault((line.stream, request), []).append(line)
    return list(found.values())


def _best(lines: Sequence[LogLine], error: str) -> LogLine:
    errors = [line for line in lines if _field(line, "level") == "ERROR"]
    named = [line for line in lines if error in line.message]
    unstructured = [line for line in lines if "Task timed out" in line.message or "Error:" in line.message]
    return (errors or named or unstructured or list(lines))[-1]


def _mentions(lines: Iterable[LogLine], text: str) -> bool:
    return any(text in line.message for line in lines)


def _request(line: LogLine) -> str | None:
    found = _REQUEST.search(line.message)
    return found[1] if found else None


def _field(line: LogLine, name: str) -> str | None:
    try:
        fields = json.loads(line.message)
    except ValueError:
        return None
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else None


def _function(visit: StateVisit, execution: str) -> str:
    if visit.function:
        return visit.function
    stack = execution.split(":")[6].removeprefix("chromadb-compaction-")
    return f"chromadb-{FUNCTIONS.get(visit.name, visit.name)}-{stack}"
