"""The environment variables of every function. The stack exports them for the command line and for clients."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from chromadb_compaction.layout import DELTA_PREFIX, SNAPSHOT_PREFIX
from infra.config import CompactionConfig, function_default
from infra.dynamodb_table import LockTable
from infra.names import StackNames
from infra.s3_buckets import VectorBucket
from infra.sqs_queue import DeltaQueue

READ_BOUNDS = ("PENDING_ROWS", "PENDING_BYTES", "PENDING_DELTAS")
"""The most pending rows, bytes and deltas that a fresh read of a function joins with the snapshot."""
PREFETCH = "QUERY_PREFETCH_COLLECTIONS"
"""The collections that the query function opens after each execution."""

EnvironmentVariables = Mapping[str, pulumi.Input[str]]

ALLOCATORS = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
"""One heap for Arrow and ChromaDB, which releases freed memory. It lowers the peak of a fold by a sixth."""


def environment(
    names: StackNames, config: CompactionConfig, *, bucket: VectorBucket, queue: DeltaQueue, table: LockTable
) -> EnvironmentVariables:
    """Return every setting of the functions, under its environment variable."""
    return {
        "CHROMADB_BUCKET": bucket.bucket.bucket,
        "CHROMADB_STACK": names.stack,
        "DELTA_QUEUE_URL": queue.queue.url,
        "DELTA_DLQ_URL": queue.dead_letters.url,
        "DYNAMODB_TABLE": table.name,
        "STATE_MACHINE_ARN": names.state_machine_arn,
        "CHROMADB_COMPACTOR_FUNCTION": names.live_function("compactor"),
        "CHROMADB_PRODUCER_FUNCTION": names.live_function("producer"),
        "CHROMADB_QUERY_FUNCTION": names.live_function("query"),
        "CHROMADB_CACHE_DIR": function_default("chromadb_cache_dir"),
        **settings(config),
    }


def exported(variables: EnvironmentVariables) -> EnvironmentVariables:
    """Return the variables for the command line and clients, without what only the query function needs.

    The bounds suit the memory of a function. A client on another machine has greater ones (collection_store.BOUNDS).
    """
    return {name: value for name, value in variables.items() if name not in {*READ_BOUNDS, PREFETCH}}


def settings(config: CompactionConfig) -> dict[str, str]:
    """Return the variables that depend on the configuration only."""
    values = {
        "DELTA_PREFIX": DELTA_PREFIX,
        "SNAPSHOT_PREFIX": SNAPSHOT_PREFIX,
        "LOCK_ID": config.lock_id,
        "LOCK_TIMEOUT_MINUTES": config.lock_timeout_minutes,
        "COMPACTION_BATCH_SIZE": config.compaction_batch_size,
        "COMPACTION_MIN_ROWS": config.compaction_min_rows,
        "COMPACTION_MIN_BYTES": config.compaction_min_bytes,
        "COMPACTION_MAX_AGE_MINUTES": config.compaction_max_age_minutes,
        "COMPACTED_RETENTION_DAYS": config.compacted_retention_days,
        "SNAPSHOT_RETENTION_COUNT": config.snapshot_retention.count,
        "SNAPSHOT_RETENTION_DAYS": config.snapshot_retention.days,
        "PARTITION_SPLIT_RECORDS": config.partition_split_records,
        "PARTITION_TARGET_RECORDS": config.partition_target_records,
        "MAX_BATCHES_PER_PASS": config.max_batches_per_pass,
        "MAX_PASS_BYTES": config.max_pass_bytes,
        "MAX_PASSES": config.max_passes,
        "MAX_DELTA_BYTES": config.max_delta_bytes,
        "MAX_DELTA_FAILURES": config.max_delta_failures,
        "READ_REFRESH_SECONDS": config.read_refresh_seconds,
        "PENDING_ROWS": config.pending_rows,
        "PENDING_BYTES": config.pending_bytes,
        "PENDING_DELTAS": config.pending_deltas,
        PREFETCH: config.query_prefetch_collections,
        "CHROMADB_EMBEDDING_FUNCTION": config.embedding_function,
    }
    return {name: str(value) for name, value in values.items() if value is not None}
