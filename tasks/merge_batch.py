"""The MergeBatch state's Lambda function."""

from __future__ import annotations

from chromadb_compaction.messages import MergeBatchRequest
from chromadb_compaction.steps.merge_batch import merge_batch
from tasks.handling import lambda_task

handler = lambda_task(MergeBatchRequest, merge_batch)
