"""The query's Lambda function: answer from the published snapshot and the pending deltas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chromadb_compaction.chroma.client import load_beside
from chromadb_compaction.errors import (
    EmbeddingFunctionError,
    InvalidRequestError,
    NewerFormatError,
    NoSnapshotError,
    NoSuchCollectionError,
)

if TYPE_CHECKING:
    from tasks.handling import Handler

CALLER_ERRORS = (
    EmbeddingFunctionError,
    InvalidRequestError,
    NewerFormatError,
    NoSnapshotError,
    NoSuchCollectionError,
)


def _handler() -> Handler:
    """Return the handler. ChromaDB is imported beside the rest, and beside the first download."""
    load_beside()
    from chromadb_compaction.steps.query import query
    from chromadb_compaction.steps.query_messages import QueryEvent
    from tasks.handling import lambda_task

    return lambda_task(QueryEvent, query, logs_result=False, answers=CALLER_ERRORS)


handler = _handler()
