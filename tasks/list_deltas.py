"""The ListDeltas state's Lambda function."""

from __future__ import annotations

from chromadb_compaction.messages import ListDeltasRequest
from chromadb_compaction.steps.list_deltas import list_deltas
from tasks.handling import lambda_task

handler = lambda_task(ListDeltasRequest, list_deltas)
