"""The query function: answers from the published snapshot."""

from __future__ import annotations

from chromadb_compaction.steps.query import QueryRequest, query
from tasks.handling import lambda_task

handler = lambda_task(QueryRequest, query, logs_result=False)
