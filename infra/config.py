"""The settings of `pulumi config set chromadb:<name> <value>`, parsed once. Errors name the wrong setting."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import pulumi
from pulumi.runtime import config as pulumi_config
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from chromadb_compaction.settings import MERGES_AT_ONCE, Settings, split_names
from infra.config_values import (
    JSON_OBJECT,
    AccountIds,
    Architecture,
    BaseImage,
    Days,
    Email,
    ImageUri,
    KeyArn,
    KeyArns,
    LockId,
    LogDays,
    MemoryMb,
    PolicyArn,
    Region,
    RolePath,
    Schedule,
    StorageMb,
    SubnetIds,
    TableName,
    TagKey,
    TagValue,
    Task,
    TimeoutSeconds,
    TopicArn,
    VpcId,
)

NAMESPACE = "chromadb"
LAMBDA_PYTHON = "public.ecr.aws/lambda/python"
UNRESERVED_MERGES = 4
"""The default of mapConcurrency without reserved concurrency: it leaves 6 of the 10 executions of a new account."""
PACKAGE_DIR = Path(__file__).parent.parent / "dist" / "lambda"


class ConfigurationRefused(pulumi.RunError):
    """A `chromadb:` setting is missing, misspelt or out of range. Pulumi prints the message without a traceback."""


def function_default(setting: str) -> Any:  # noqa: ANN401 - its type is that of the setting
    """Return the default of one of the functions' settings."""
    return Settings.model_fields[setting].default


def _as_in_functions(setting: str) -> Any:  # noqa: ANN401 - pydantic replaces it by the value
    """Return a field with the default and the bounds that the functions give this setting."""
    return Settings.model_fields[setting]


class SnapshotRetention(BaseModel):
    """The snapshots to keep: the newest `count`, and all that are younger than `days`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = _as_in_functions("snapshot_retention_count")
    days: float = _as_in_functions("snapshot_retention_days")


class CompactionConfig(BaseModel):
    """The `chromadb:` namespace, in which `lock_timeout_minutes` is spelt `chromadb:lockTimeoutMinutes`."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    # The functions that need ChromaDB or pyarrow have an image: one that exists, or one built from the base image. The
    # directory is for the zip of the others.
    image_uri: ImageUri | None = None
    base_image: BaseImage | None = None
    package_dir: Path = PACKAGE_DIR
    architecture: Architecture = "arm64"

    # The workflow. So many notifications, or one that old, start a compaction early; 0 means never.
    compaction_schedule: Schedule = "rate(15 minutes)"
    enable_compaction: bool = True
    backlog_start: Annotated[int, Field(ge=0)] = 1000
    backlog_start_minutes: Annotated[int, Field(ge=0, le=4 * 24 * 60)] = 0
    existing_table: TableName | None = None
    lock_id: LockId = _as_in_functions("lock_id")
    lock_timeout_minutes: int = _as_in_functions("lock_timeout_minutes")
    compaction_batch_size: int = _as_in_functions("compaction_batch_size")
    compaction_min_rows: int = _as_in_functions("compaction_min_rows")
    compaction_min_bytes: int = _as_in_functions("compaction_min_bytes")
    compaction_max_age_minutes: int = _as_in_functions("compaction_max_age_minutes")
    partition_split_records: int = _as_in_functions("partition_split_records")
    partition_target_records: int = _as_in_functions("partition_target_records")
    max_batches_per_pass: int = _as_in_functions("max_batches_per_pass")
    max_pass_bytes: int = _as_in_functions("max_pass_bytes")
    max_passes: int = _as_in_functions("max_passes")
    max_delta_bytes: int = _as_in_functions("max_delta_bytes")
    max_delta_failures: int = _as_in_functions("max_delta_failures")
    read_refresh_seconds: float = _as_in_functions("read_refresh_seconds")
    pending_rows: int = _as_in_functions("pending_rows")
    pending_bytes: int = _as_in_functions("pending_bytes")
    pending_deltas: int = _as_in_functions("pending_deltas")
    query_prefetch_collections: str | None = _as_in_functions("query_prefetch_collections")
    embedding_function: Annotated[str, Field(min_length=1)] = function_default("chromadb_embedding_function")

    # The name in every resource's name, so that `pulumi stack rename` need not change them. Default: the stack's.
    name: str | None = None

    # Storage: protection, encryption, replication and retention.
    protect_data: bool = True
    kms_key_arn: KeyArn | None = None
    former_kms_key_arns: KeyArns = ()
    replica_region: Region | None = None
    replica_kms_key_arn: KeyArn | None = None
    compacted_retention_days: Days = _as_in_functions("compacted_retention_days")
    snapshot_retention: Annotated[SnapshotRetention, JSON_OBJECT] = SnapshotRetention()
    version_retention_days: Days = 7
    snapshot_version_days: Days = 3
    log_retention_days: LogDays = 30

    # Changes to the sizes that task_lambdas.py gives each function.
    memory: Annotated[Mapping[Task, MemoryMb], JSON_OBJECT] = {}
    timeout: Annotated[Mapping[Task, TimeoutSeconds], JSON_OBJECT] = {}
    ephemeral_storage: Annotated[Mapping[Task, StorageMb], JSON_OBJECT] = {}
    reserve_concurrency: bool = True
    # At most 40, as in an inline Map: docs.aws.amazon.com/step-functions/latest/dg/state-map-inline.html
    map_concurrency: Annotated[int, Field(ge=1, le=40)] | None = None

    # Other accounts whose users may write deltas, or read.
    writer_accounts: AccountIds = ()
    reader_accounts: AccountIds = ()

    # What an organisation requires of roles.
    permissions_boundary_arn: PolicyArn | None = None
    role_path: RolePath = "/"

    # Tags beside the stack's own, and the dollars a month above which the topic is notified.
    tags: Annotated[Mapping[TagKey, TagValue], JSON_OBJECT] = {}
    monthly_budget: Annotated[float, Field(gt=0)] | None = None

    # Notifications of alarms, network and audit.
    alarm_topic_arn: TopicArn | None = None
    alarm_email: Email | None = None
    vpc_id: VpcId | None = None
    subnet_ids: SubnetIds = ()
    vpc_endpoints: bool = True
    audit_trail: bool = False

    @model_validator(mode="after")
    def _one_image_is_set(self) -> Self:
        if self.image_uri and self.base_image:
            raise ValueError(
                f"{NAMESPACE}:imageUri and {NAMESPACE}:baseImage are both set; remove imageUri, and the image is built"
            )
        if not self.image_uri and not self.base_image:
            raise ValueError(
                f"{NAMESPACE}:baseImage is not set; look up its digest as infra/README.md says, then run: pulumi config"
                f" set {NAMESPACE}:baseImage {LAMBDA_PYTHON}@sha256:<digest>"
            )
        return self

    @model_validator(mode="after")
    def _dependent_settings_are_set_together(self) -> Self:
        if bool(self.vpc_id) != bool(self.subnet_ids):
            given, missing = ("vpcId", "subnetIds") if self.vpc_id else ("subnetIds", "vpcId")
            raise ValueError(f"{NAMESPACE}:{missing} is not set, but {NAMESPACE}:{given} is; set both or neither")
        both = bool(self.kms_key_arn and self.replica_region)
        if both and not self.replica_kms_key_arn:
            raise ValueError(
                f"{NAMESPACE}:replicaKmsKeyArn is not set; kmsKeyArn and replicaRegion are, so the copies need a key in"
                f" {self.replica_region}"
            )
        if self.replica_kms_key_arn and not both:
            raise ValueError(
                f"{NAMESPACE}:replicaKmsKeyArn needs both kmsKeyArn and replicaRegion; set them or remove it"
            )
        least = {"compactionMinRows": self.compaction_min_rows, "compactionMinBytes": self.compaction_min_bytes}
        for name in (name for name, value in least.items() if value and not self.compaction_max_age_minutes):
            raise ValueError(
                f"{NAMESPACE}:compactionMaxAgeMinutes is not set, but {NAMESPACE}:{name} is; a delta that no other"
                " follows would wait for ever"
            )
        if self.partition_target_records > self.partition_split_records:
            raise ValueError(
                f"{NAMESPACE}:partitionTargetRecords = {self.partition_target_records} exceeds partitionSplitRecords ="
                f" {self.partition_split_records}, so parts would be divided again; lower the one or raise the other"
            )
        if (self.map_concurrency or 0) > self.max_batches_per_pass:
            raise ValueError(
                f"{NAMESPACE}:mapConcurrency = {self.map_concurrency} exceeds maxBatchesPerPass ="
                f" {self.max_batches_per_pass}, so some merges would never run; lower the one or raise the other"
            )
        return self

    @property
    def prefetches(self) -> bool:
        """True if the query function is called after each execution."""
        return bool(split_names(self.query_prefetch_collections or ""))

    @property
    def merges_at_once(self) -> int:
        """The Map's MaxConcurrency. Without reservations merges must not take all executions of a new account: 10."""
        return self.map_concurrency or (MERGES_AT_ONCE if self.reserve_concurrency else UNRESERVED_MERGES)

    def check_regions(self, region: str) -> None:
        """Raise ConfigurationRefused for a setting in the wrong region. `region` is the stack's own."""
        if self.replica_region == region:
            raise _refused("replicaRegion", self.replica_region, "Should be a region other than the stack's")
        # https://docs.aws.amazon.com/lambda/latest/dg/images-create.html: image and function are in one region.
        if self.image_uri and self.image_uri.split(".")[3] != region:
            raise _refused("imageUri", self.image_uri, f"Should be in {region}")
        expected = [
            ("kmsKeyArn", self.kms_key_arn, region),
            *(("formerKmsKeyArns", key, region) for key in self.former_kms_key_arns),
            ("alarmTopicArn", self.alarm_topic_arn, region),
            ("replicaKmsKeyArn", self.replica_kms_key_arn, self.replica_region),
        ]
        for name, arn, wanted in expected:
            if arn and arn.split(":")[3] != wanted:
                raise _refused(name, arn, f"Should be in {wanted}")


def load_config() -> CompactionConfig:
    """Return the stack's configuration. Raises ConfigurationRefused, which names the first wrong setting."""
    return parse_config(_namespace_values())


def parse_config(values: Mapping[str, Any]) -> CompactionConfig:
    """Return the configuration from camel-case names without the namespace. Raises ConfigurationRefused."""
    known = {field.alias for field in CompactionConfig.model_fields.values() if field.alias}
    for name in sorted(values.keys() - known):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {NAMESPACE}:{close[0]}?" if close else ""
        raise ConfigurationRefused(f"{NAMESPACE}:{name} is not a setting{hint}")
    try:
        return CompactionConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        why = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise ConfigurationRefused(why) from error
        # Pydantic adds the name "[key]" for a wrong key of a mapping.
        path = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise _refused(path, first["input"], why) from error


def _refused(name: str, value: object, why: str) -> ConfigurationRefused:
    return ConfigurationRefused(f"{NAMESPACE}:{name} = {value!r}: {why}")


def _namespace_values() -> dict[str, Any]:
    # pulumi.Config reads single keys only, so a misspelt key would go unnoticed.
    values = {**pulumi_config.get_config_env(), **pulumi_config.CONFIG.get()}
    prefix = f"{NAMESPACE}:"
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
