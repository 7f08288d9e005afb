"""The ReleaseLock state's Lambda function."""

from __future__ import annotations

from chromadb_compaction.messages import ReleaseLockRequest
from chromadb_compaction.steps.release_lock import release_lock
from tasks.handling import lambda_task

handler = lambda_task(ReleaseLockRequest, release_lock)
