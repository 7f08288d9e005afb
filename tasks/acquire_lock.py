"""The AcquireLock state's Lambda function."""

from __future__ import annotations

from chromadb_compaction.messages import AcquireLockRequest
from chromadb_compaction.steps.acquire_lock import acquire_lock
from tasks.handling import lambda_task

handler = lambda_task(AcquireLockRequest, acquire_lock)
