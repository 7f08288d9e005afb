"""The report of a failure: its state and batch, its error, the log lines that explain it, and the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.cli.executions.advice import advise
from chromadb_compaction.cli.executions.failure_logs import FUNCTIONS, FailureLog, failure_log, message_of, text_of
from chromadb_compaction.cli.executions.summary import last_published
from chromadb_compaction.layout import batch_number

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

    from chromadb_compaction.cli.executions.client import Execution
    from chromadb_compaction.cli.executions.timeline import Timeline


class FailureReport(BaseModel):
    """The last failure of an execution.

    Attributes:
        batch: The key of the batch that failed.
        published: The last snapshot that the execution published before it failed.
        meaning: The meaning of the error for the data. None if the execution recovered.
        next: The next command to type. None if the execution recovered, so that nothing is to be done.
        request: The id of the Lambda invocation that logged `lines`.
        explained_by: The message of the line that explains most.
    """

    model_config = ConfigDict(frozen=True)

    state: str | None
    batch: str | None
    error: str
    message: str
    published: str | None
    meaning: str | None
    next: str | None
    log_group: str | None
    request: str | None
    explained_by: str | None
    lines: tuple[str, ...]

    @property
    def where(self) -> str:
        """The state, with the batch if there is one."""
        batch = f", batch {batch_number(self.batch)}" if self.batch else ""
        return f"{self.state or 'the execution itself'}{batch}"


def report_failure(execution: Execution, timeline: Timeline, log: FailureLog | None) -> FailureReport | None:
    """Return the report of the last failure, or None if nothing failed."""
    visit = timeline.last_failure()
    not_failed = execution.status in {"SUCCEEDED", "RUNNING"}
    if visit is None and not_failed:
        return None
    last = visit.failures[-1] if visit else None
    error = (None if not_failed else execution.error) or (last.error if last else execution.status)
    message = (None if not_failed else execution.message) or (last.message if last else "")
    last_state = timeline.visits[-1].name if timeline.visits else None
    state = (visit.inside or visit.name) if visit else last_state
    function = FUNCTIONS.get(state or "", "compactor")
    advice = advise(None if error == execution.status else error, execution.status, function=function, message=message)
    recovered = not_failed and error != "LockHeldError"
    return FailureReport(
        state=state,
        batch=(log.batch if log else None) or (visit.failed_batch if visit else None),
        error=error,
        message=message,
        published=last_published(timeline),
        meaning=None if recovered else advice.meaning,
        next=None if recovered else advice.command,
        log_group=log.group if log else None,
        request=log.request if log else None,
        explained_by=message_of(log.best) if log else None,
        lines=tuple(text_of(line) for line in log.lines) if log else (),
    )


def read_failure(client: CloudWatchLogsClient, execution: Execution, timeline: Timeline) -> FailureReport | None:
    """Return the report of the last failure with its log lines, or None if nothing failed."""
    visit = timeline.last_failure()
    return report_failure(execution, timeline, failure_log(client, visit, execution.arn) if visit else None)
