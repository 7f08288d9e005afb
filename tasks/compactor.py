"""The compactor's Lambda function: DownloadSnapshot and UploadSnapshot, so that they share one local copy.

An empty event starts an execution.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from chromadb_compaction.chroma.client import load
from chromadb_compaction.messages import DownloadSnapshotRequest, UploadSnapshotRequest
from chromadb_compaction.steps.download_snapshot import download_snapshot
from chromadb_compaction.steps.start_execution import StartExecutionRequest, start_execution
from chromadb_compaction.steps.upload_snapshot import upload_snapshot
from tasks.handling import lambda_task, parse


class DownloadSnapshotTask(DownloadSnapshotRequest):
    """The DownloadSnapshot state's event."""

    task: Literal["DownloadSnapshot"]


class UploadSnapshotTask(UploadSnapshotRequest):
    """The UploadSnapshot state's event."""

    task: Literal["UploadSnapshot"]


class CompactorTask(RootModel[Annotated[DownloadSnapshotTask | UploadSnapshotTask, Field(discriminator="task")]]):
    """Either event. `task` names it."""


_HANDLERS = {
    "DownloadSnapshot": lambda_task(DownloadSnapshotTask, download_snapshot),
    "UploadSnapshot": lambda_task(UploadSnapshotTask, upload_snapshot),
}
_start_handler = lambda_task(StartExecutionRequest, start_execution)

load()  # while the function starts, and not in its first fold


def handler(event: object, context: object) -> dict[str, Any]:
    """Run the task that the event names. Raises InvalidRequestError for an unknown task."""
    return _HANDLERS[parse(CompactorTask, event).root.task](event, context) if event else _start_handler({}, context)
