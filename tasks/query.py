"""The query's Lambda function: answer from the published snapshot and the pending deltas."""

from __future__ import annotations

from chromadb_compaction.errors import (
    EmbeddingFunctionError,
    InvalidRequestError,
    NewerFormatError,
    NoSnapshotError,
    NoSuchCollectionError,
)
from chromadb_compaction.steps.query import query
from chromadb_compaction.steps.query_messages import QueryEvent
from tasks.handling import lambda_task

CALLER_ERRORS = (
    EmbeddingFunctionError,
    InvalidRequestError,
    NewerFormatError,
    NoSnapshotError,
    NoSuchCollectionError,
)

handler = lambda_task(QueryEvent, query, logs_result=False, answers=CALLER_ERRORS)
