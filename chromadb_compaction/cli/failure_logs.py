"""The log line that explains a failure, from the function that failed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from chromadb_compaction.cli.timeline import StateVisit

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

_LINES_READ = 2000


class LogLine(NamedTuple):
    """One line of a function's log."""

    group: str
    at: datetime
    message: str


def explaining_line(client: CloudWatchLogsClient, visit: StateVisit, execution: str) -> LogLine | None:
    """Return the last error that the failed visit's function logged for `execution` (its ARN).

    None: there is no such line, or the logs are out of reach, which costs an explanation and nothing else.
    """
    name = execution.rpartition(":")[2]
    group = f"/aws/lambda/{_function(visit, execution)}"
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=group,
        startTime=_millis(visit.entered - _MARGIN),
        endTime=_millis(visit.failures[-1].at + _MARGIN),
        PaginationConfig={"MaxItems": _LINES_READ},
    )
    try:
        lines = [LogLine(group, _moment(e["timestamp"]), e["message"]) for page in pages for e in page["events"]]
    except (BotoCoreError, ClientError):
        return None
    return pick(lines, execution=name, error=visit.failures[-1].error)


def pick(lines: Iterable[LogLine], *, execution: str, error: str) -> LogLine | None:
    """Return the last line at level ERROR that names `execution`, or else the last that names `error`."""
    found = sorted(lines, key=lambda line: line.at)
    ours = [line for line in found if execution in line.message and '"ERROR"' in line.message]
    named = [line for line in found if error in line.message]
    best = ours or named
    return best[-1]._replace(message=_text(best[-1].message)) if best else None


def _function(visit: StateVisit, execution: str) -> str:
    if visit.function:
        return visit.function
    stack = execution.split(":")[6].removeprefix("chromadb-compaction-")
    return f"chromadb-{_FUNCTIONS.get(visit.name, visit.name)}-{stack}"


def _text(message: str) -> str:
    try:
        fields = json.loads(message)
    except ValueError:
        return message.strip()
    if not isinstance(fields, dict):
        return message.strip()
    return str(fields.get("message", message)).strip()


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
