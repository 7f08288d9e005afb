"""The CleanUp state's Lambda function."""

from __future__ import annotations

from chromadb_compaction.messages import CleanUpRequest
from chromadb_compaction.steps.clean_up import clean_up
from tasks.handling import lambda_task

handler = lambda_task(CleanUpRequest, clean_up)
