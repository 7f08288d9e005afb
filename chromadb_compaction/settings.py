"""Settings, read once from the environment under the names that Pulumi exports and operators type."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from chromadb_compaction import layout
from chromadb_compaction.errors import ConfigurationError, CorruptDeltaError

KNOWN_PREFIXES = (
    "CHROMADB_",
    "COMPACT",
    "DELTA_",
    "DYNAMODB_",
    "LOCK_",
    "MAX_",
    "PARTITION_",
    "PENDING_",
    "QUERY_",
    "READ_",
    "SNAPSHOT_",
    "STATE_MACHINE_",
)
REPLICA_NAME = "chromadb-replica-"
"""The beginning of the name of every replica's bucket."""
MEBIBYTE = 1024 * 1024
MERGES_AT_ONCE = 10
"""The default of the Map's MaxConcurrency. A batch has at most so many parts of a pass's bytes."""
UPLOAD_PART_BYTES = 8 * MEBIBYTE
"""The size of a part of a large object's upload. S3 charges for each part, which docs/cost.md counts."""

OPEN_COLLECTIONS = "*"
"""In `query_prefetch_collections`: those that are open."""


def _checked_names(text: str) -> str:
    for name in split_names(text):
        if name != OPEN_COLLECTIONS:
            try:
                layout.check_collection_name(name)
            except CorruptDeltaError as error:
                raise ValueError(str(error)) from error
    return text


def split_names(text: str) -> tuple[str, ...]:
    """Return the names of a list that is separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


Prefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/$")]
PrefetchNames = Annotated[str, AfterValidator(_checked_names)]
Value = TypeVar("Value")


class Settings(BaseModel):
    """The settings of tasks and commands. Each is an environment variable of the same name in upper case.

    Only the bucket has no default. Resources that not every function needs (queue, table, state machine) may be None;
    `required` checks them. The model does not read the environment: `load_settings` does.

    Attributes:
        chromadb_bucket: The bucket that holds everything.
        chromadb_stack: The name of the Pulumi stack.
        delta_prefix: The prefix of pending deltas.
        snapshot_prefix: The prefix of snapshots and of the pointer.
        delta_queue_url: The queue of notifications about new deltas.
        delta_dlq_url: The dead-letter queue.
        dynamodb_table: The table that holds the lock.
        lock_id: The name of the lock.
        lock_timeout_minutes: The time that a lease lasts without a renewal.
        compaction_batch_size: The largest number of deltas in a batch.
        compacted_retention_days: How long merged deltas stay in compacted/.
        snapshot_retention_count: The number of newest snapshots that are never pruned.
        snapshot_retention_days: The age below which no snapshot is pruned.
        compaction_min_rows: A collection waits until so many of its rows are pending. 0: rows do not matter.
        compaction_min_bytes: It waits until so many bytes are pending. 0: bytes do not matter.
        compaction_max_age_minutes: It waits no longer than that. 0: no collection waits, and the others must be 0 too.
        partition_split_records: A directory of a collection that would have more records is divided.
        partition_target_records: The most records of each of its parts. Neighbours with less than half are joined.
        max_batches_per_pass: The largest number of batches in a pass.
        max_passes: The largest number of passes in an execution.
        max_pass_bytes: The largest size of the deltas of a pass.
        max_delta_bytes: The largest size of a delta. Larger ones are quarantined.
        max_delta_failures: A delta that made so many executions fail is set aside, and the others go on without it.
        read_refresh_seconds: How long a reader uses the list of pending deltas that it has read.
        pending_rows: The most rows of pending deltas that a fresh read joins with the snapshot.
        pending_bytes: The most bytes of these deltas, stored and in memory.
        pending_deltas: The most deltas among them.
        query_prefetch_collections: The collections that the query function opens after each execution, separated by
            commas. `*`: those that it has open. None: it opens a snapshot when a query needs it.
        chromadb_cache_dir: The directory of downloaded snapshots.
        state_machine_arn: The state machine.
        chromadb_query_function: The name of the query function.
        chromadb_producer_function: The name of the producer function.
        chromadb_compactor_function: The name of the function of DownloadSnapshot and UploadSnapshot.
        chromadb_embedding_function: The embedding function of new collections.
        aws_lambda_function_memory_size: The memory of the function in MB, set by Lambda itself. None elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chromadb_bucket: str
    chromadb_stack: Annotated[str, Field(min_length=1)] = "dev"
    delta_prefix: Prefix = layout.DELTA_PREFIX
    snapshot_prefix: Prefix = layout.SNAPSHOT_PREFIX
    delta_queue_url: str | None = None
    delta_dlq_url: str | None = None
    dynamodb_table: str | None = None
    lock_id: str = "chroma-main-snapshot"
    lock_timeout_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 15
    compaction_batch_size: Annotated[int, Field(ge=1, le=1000)] = 100
    compaction_min_rows: Annotated[int, Field(ge=0)] = 0
    compaction_min_bytes: Annotated[int, Field(ge=0)] = 0
    compaction_max_age_minutes: Annotated[int, Field(ge=0, le=7 * 24 * 60)] = 0
    compacted_retention_days: Annotated[int, Field(ge=1)] = 7
    snapshot_retention_count: Annotated[int, Field(ge=1)] = 10
    snapshot_retention_days: Annotated[float, Field(gt=0)] = 1
    partition_split_records: Annotated[int, Field(ge=1)] = 200_000
    partition_target_records: Annotated[int, Field(ge=1)] = 125_000
    # These two bounds keep the largest state under 256 KiB and the longest history under 25,000 events.
    max_batches_per_pass: Annotated[int, Field(ge=1, le=40)] = 40
    max_passes: Annotated[int, Field(ge=1, le=25)] = 25
    max_pass_bytes: Annotated[int, Field(ge=1)] = 512 * MEBIBYTE
    max_delta_bytes: Annotated[int, Field(ge=1)] = 64 * MEBIBYTE
    max_delta_failures: Annotated[int, Field(ge=1)] = 3
    read_refresh_seconds: Annotated[float, Field(ge=0, le=3600)] = 1
    pending_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    pending_bytes: Annotated[int, Field(ge=1)] = 32 * MEBIBYTE
    pending_deltas: Annotated[int, Field(ge=1, le=10_000)] = 200
    query_prefetch_collections: PrefetchNames | None = None
    chromadb_cache_dir: str = "/tmp/chromadb-compaction"  # noqa: S108 - the only place a Lambda may write
    state_machine_arn: str | None = None
    chromadb_query_function: str | None = None
    chromadb_producer_function: str | None = None
    chromadb_compactor_function: str | None = None
    chromadb_embedding_function: str = "wordllama"
    aws_lambda_function_memory_size: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _no_prefix_is_used_twice(self) -> Self:
        # If they were equal, a delta would be archived onto itself, and then deleted as the original.
        prefixes = [self.delta_prefix, self.snapshot_prefix, *layout.FIXED_PREFIXES]
        if len(set(prefixes)) < len(prefixes):
            raise ValueError(f"DELTA_PREFIX and SNAPSHOT_PREFIX must differ from each other and from {prefixes[2:]}")
        return self

    @model_validator(mode="after")
    def _nothing_waits_for_ever(self) -> Self:
        least = {"COMPACTION_MIN_ROWS": self.compaction_min_rows, "COMPACTION_MIN_BYTES": self.compaction_min_bytes}
        for name in (name for name, value in least.items() if value and not self.compaction_max_age_minutes):
            raise ValueError(
                f"{name} is set, and COMPACTION_MAX_AGE_MINUTES is not: a delta that no other follows would wait for"
                " ever; set it to the age at which a delta is merged in any case"
            )
        return self

    @model_validator(mode="after")
    def _parts_are_not_divided_again(self) -> Self:
        if self.partition_target_records > self.partition_split_records:
            raise ValueError(
                "PARTITION_TARGET_RECORDS is above PARTITION_SPLIT_RECORDS: the parts would be divided again"
            )
        return self

    @property
    def prefetched(self) -> tuple[str, ...]:
        """The names in `query_prefetch_collections`."""
        return split_names(self.query_prefetch_collections or "")

    @property
    def is_replica(self) -> bool:
        """True if the bucket's name is a replica's. S3 copies objects in any order, the pointer perhaps first."""
        return self.chromadb_bucket.startswith(REPLICA_NAME)

    @property
    def max_batch_bytes(self) -> int:
        """The largest size of a batch: a pass's bytes, shared by the merges that run at once by default."""
        return max(1, self.max_pass_bytes // MERGES_AT_ONCE)

    @property
    def function_memory_bytes(self) -> int | None:
        """The memory of the function. None if there is no limit."""
        megabytes = self.aws_lambda_function_memory_size
        return None if megabytes is None else megabytes * MEBIBYTE

    @property
    def lease_seconds(self) -> int:
        """The time that a lease lasts without a renewal."""
        return self.lock_timeout_minutes * 60


def required(value: Value | None, variable: str) -> Value:
    """Return `value`, or raise ConfigurationError with the environment variable that sets it."""
    if value is None:
        raise ConfigurationError(
            f"{variable} is not set", next_step="set it, or run: eval $(pulumi stack output --shell)"
        )
    return value


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Parse the environment. An empty variable counts as not set.

    Raises ConfigurationError for a missing, wrong or misspelt variable.
    """
    for problem in settings_problems(environment):
        raise ConfigurationError(problem)
    return Settings.model_validate(_values(environment))


def settings_with(settings: Settings | None, chosen: Mapping[str, str]) -> Settings:
    """Return the settings with those that a caller has chosen, by field. None: the settings of the environment."""
    if settings is not None:
        return settings.model_copy(update=dict(chosen))
    return load_settings({**os.environ, **{name.upper(): value for name, value in chosen.items()}})


def settings_problems(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return every reason why `load_settings` would fail. Empty if it would not."""
    problems = list(_misspelt(os.environ if environment is None else environment))
    try:
        Settings.model_validate(_values(environment))
    except ValidationError as error:
        problems += _wrong(error)
    return problems


def settings_set(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of the settings that the environment sets, sorted."""
    return sorted(name.upper() for name in _values(environment))


def _values(environment: Mapping[str, str] | None) -> dict[str, str]:
    env = os.environ if environment is None else environment
    return {name: env[name.upper()] for name in Settings.model_fields if env.get(name.upper())}


def _misspelt(env: Mapping[str, str]) -> Iterator[str]:
    known = {name.upper() for name in Settings.model_fields}
    for name in sorted(env):
        if name.startswith(KNOWN_PREFIXES) and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            if close:
                yield f"the environment variable {name} is not a setting; did you mean {close[0]}?"


def _wrong(error: ValidationError) -> list[str]:
    problems = []
    for problem in error.errors():
        variable = ".".join(str(part) for part in problem["loc"]).upper()
        where = f"the environment variable {variable}" if variable else "the environment"
        problems.append(f"{where}: {problem['msg']}")
    return problems
