"""The producer's Lambda function: write the records and deletes of an event as deltas."""

from __future__ import annotations

from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.steps.produce import ProduceEvent, produce
from tasks.handling import lambda_task

handler = lambda_task(ProduceEvent, produce, answers=(InvalidRequestError,))
