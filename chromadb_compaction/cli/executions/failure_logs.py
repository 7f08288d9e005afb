"""What a function logged while it failed: the lines of that one invocation, told apart from all others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from chromadb_compaction.cli.executions.timeline import StateVisit

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

_FUNCTIONS = {
    "AcquireLock": "acquire-lock",
    "ListDeltas": "list-deltas",
    "DownloadSnapshot": "compactor",
    "MergeBatches": "merge-batch",
    "MergeBatch": "merge-batch",
    "UploadSnapshot": "compactor",
    "CleanUp": "clean-up",
    "ReleaseLock": "release-lock",
}
_MARGIN = timedelta(seconds=30)
"""Log lines arrive with their own clock, and the error's line is often written just before the failure."""

_LINES_READ = 5000
_REQUEST = re.compile(r'(?:RequestId: |"(?:function_request_id|requestId)": ?")([0-9a-f-]{36})')
_PLATFORM = re.compile(r'(START|END|INIT_START)\b|\{"_aws"|\{"time":.*"type": ?"platform\.(?!report|runtimeDone)')
"""Lines that explain nothing: Lambda's own brackets, and metrics."""


class LogLine(NamedTuple):
    """One line of a function's log. `message` is the text as it was written, `stream` the worker that wrote it."""

    group: str
    stream: str
    at: datetime
    message: str


class FailureLog(NamedTuple):
    """What one failed invocation logged: the line that explains most, and every line in order."""

    group: str
    request: str | None
    batch: str | None
    best: LogLine
    lines: tuple[LogLine, ...]


def failure_log(client: CloudWatchLogsClient, visit: StateVisit, execution: str) -> FailureLog | None:
    """Return what the failed visit's function logged for `execution` (its ARN) when it last failed.

    None: there are no such lines, or the logs are out of reach, which costs an explanation and nothing else.
    """
    group = f"/aws/lambda/{_function(visit, execution)}"
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=group,
        startTime=_millis(visit.entered - _MARGIN),
        endTime=_millis(visit.failures[-1].at + _MARGIN),
        PaginationConfig={"MaxItems": _LINES_READ},
    )
    try:
        lines = [
            LogLine(group, event.get("logStreamName", ""), _moment(event["timestamp"]), event["message"].rstrip())
            for page in pages
            for event in page["events"]
        ]
    except (BotoCoreError, ClientError):
        return None
    name = execution.rpartition(":")[2]
    return pick(lines, execution=name, error=visit.failures[-1].error, batch=visit.failed_batch)


def pick(lines: Iterable[LogLine], *, execution: str, error: str, batch: str | None = None) -> FailureLog | None:
    """Return the invocation of `execution` that best fits the failure: its batch, its error, the latest.

    Without one of this execution, the latest that names `error` at all.
    """
    invocations = _by_request(lines)
    ours = [each for each in invocations if _names(each, execution)]
    candidates = ours or [each for each in invocations if _names(each, error)]
    if not candidates:
        return None

    def fit(invocation: Sequence[LogLine]) -> tuple[bool, bool, datetime]:
        return bool(batch) and _names(invocation, str(batch)), _names(invocation, error), invocation[-1].at

    chosen = max(candidates, key=fit)
    told = tuple(line for line in chosen if not _PLATFORM.match(line.message)) or tuple(chosen)
    return FailureLog(
        group=chosen[0].group,
        request=next((found for line in chosen if (found := _request(line))), None),
        batch=next((found for line in told if (found := _field(line, "batch"))), batch),
        best=_best(told, error),
        lines=told,
    )


def text_of(line: LogLine) -> str:
    """Return the line as a person reads it: a structured one by level and message, any other as it stands."""
    message = _field(line, "message")
    return f"{_field(line, 'level') or ''} {message}".strip() if message else line.message


def message_of(line: LogLine) -> str:
    """Return the line's message alone."""
    return _field(line, "message") or line.message.strip()


def _by_request(lines: Iterable[LogLine]) -> list[list[LogLine]]:
    """Part the lines by invocation. A line without a request's id belongs to the one its stream is busy with."""
    found: dict[tuple[str, str | None], list[LogLine]] = {}
    busy: dict[str, str | None] = {}
    for line in sorted(lines, key=lambda each: each.at):
        request = _request(line) or busy.get(line.stream)
        busy[line.stream] = None if line.message.startswith("REPORT ") else request
        found.setdefault((line.stream, request), []).append(line)
    return list(found.values())


def _best(lines: Sequence[LogLine], error: str) -> LogLine:
    errors = [line for line in lines if _field(line, "level") == "ERROR"]
    named = [line for line in lines if error in line.message]
    timeout = [line for line in lines if "Task timed out" in line.message or "Error:" in line.message]
    return (errors or named or timeout or list(lines))[-1]


def _names(lines: Iterable[LogLine], text: str) -> bool:
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
    return f"chromadb-{_FUNCTIONS.get(visit.name, visit.name)}-{stack}"


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
