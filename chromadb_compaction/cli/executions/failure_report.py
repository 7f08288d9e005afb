"""A failure read out: where, what, the lines that explain it, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.cli.executions.advice import advise
from chromadb_compaction.cli.executions.failure_logs import FailureLog, failure_log, message_of, text_of
from chromadb_compaction.layout import batch_number

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

    from chromadb_compaction.cli.executions.client import Execution
    from chromadb_compaction.cli.executions.timeline import Timeline

_WENT_WELL = ("SUCCEEDED", "RUNNING")


class FailureReport(BaseModel):
    """What a person needs to know of a failure.

    `batch` is the key of the batch that failed, `request` the invocation whose `lines` these are, `explained_by`
    the one that says most. `next` is None when the execution has got over it: nothing is to be done.
    """

    model_config = ConfigDict(frozen=True)

    state: str | None
    batch: str | None
    error: str
    message: str
    meaning: str | None
    next: str | None
    log_group: str | None
    request: str | None
    explained_by: str | None
    lines: tuple[str, ...]

    @property
    def where(self) -> str:
        """The state, and the batch if it was one."""
        batch = f", batch {batch_number(self.batch)}" if self.batch else ""
        return f"{self.state or 'the execution itself'}{batch}"


def tell_failure(execution: Execution, timeline: Timeline, log: FailureLog | None) -> FailureReport | None:
    """Return the story of what failed, or None if nothing did."""
    visit = timeline.last_failure()
    recovered = execution.status in _WENT_WELL
    if visit is None and recovered:
        return None
    last = visit.failures[-1] if visit else None
    error = (None if recovered else execution.error) or (last.error if last else execution.status)
    message = (None if recovered else execution.message) or (last.message if last else "")
    advice = advise(None if error == execution.status else error, execution.status)
    over = recovered and error != "LockHeldError"
    return FailureReport(
        state=(visit.inside or visit.name) if visit else _last_state(timeline),
        batch=(log.batch if log else None) or (visit.failed_batch if visit else None),
        error=error,
        message=message,
        meaning=None if over else advice.meaning,
        next=None if over else advice.command,
        log_group=log.group if log else None,
        request=log.request if log else None,
        explained_by=message_of(log.best) if log else None,
        lines=tuple(text_of(line) for line in log.lines) if log else (),
    )


def read_failure(client: CloudWatchLogsClient, execution: Execution, timeline: Timeline) -> FailureReport | None:
    """Return the story of what failed, with the lines of the log, or None if nothing did."""
    visit = timeline.last_failure()
    return tell_failure(execution, timeline, failure_log(client, visit, execution.arn) if visit else None)


def _last_state(timeline: Timeline) -> str | None:
    return timeline.visits[-1].name if timeline.visits else None
