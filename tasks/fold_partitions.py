"""The FoldPartitions state's Lambda function: one item of its Map."""

from __future__ import annotations

from chromadb_compaction.chroma.client import load
from chromadb_compaction.messages import FoldPartitionRequest
from chromadb_compaction.steps.fold_partitions import fold_partition
from tasks.handling import lambda_task

handler = lambda_task(FoldPartitionRequest, fold_partition)
load()  # while the function starts, and not in its first fold
