"""What an operator may set: `pulumi config set chromadb:<name> <value>`. Parsed once, wrong values refused by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import pulumi
from pulumi.runtime import config as pulumi_config
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from infra.config_values import (
    JSON_OBJECT,
    Days,
    ImageUri,
    KeyArn,
    LockId,
    LogDays,
    MemoryMb,
    Region,
    Schedule,
    StorageMb,
    SubnetIds,
    TableName,
    Task,
    TimeoutSeconds,
    TopicArn,
    VpcId,
)

NAMESPACE = "chromadb"
PACKAGE_DIR = Path(__file__).parent.parent / "dist" / "lambda"
MEBIBYTE = 1024 * 1024


class ConfigurationRefused(pulumi.RunError):
    """A `chromadb:` setting is missing, misspelt or out of range. Pulumi prints the message without a traceback."""


class SnapshotRetention(BaseModel):
    """A snapshot is pruned when it is neither among the newest `count` nor younger than `days`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Annotated[int, Field(ge=1)] = 10
    days: Annotated[float, Field(gt=0)] = 1


class CompactionConfig(BaseModel):
    """The `chromadb:` namespace, where `lock_timeout_minutes` is spelt `chromadb:lockTimeoutMinutes`.

    Defaults and bounds of what the functions read are those of the functions themselves; a test holds them together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    # The container image of the functions that need ChromaDB or pyarrow; the directory of the others' zip.
    image_uri: ImageUri
    package_dir: Path = PACKAGE_DIR

    # The workflow. An early start needs a backlog of so many notices, or one that old; 0 means never.
    compaction_schedule: Schedule = "rate(15 minutes)"
    enable_compaction: bool = True
    backlog_start: Annotated[int, Field(ge=0)] = 1000
    backlog_start_minutes: Annotated[int, Field(ge=0, le=4 * 24 * 60)] = 0
    existing_table: TableName | None = None
    lock_id: LockId = "chroma-main-snapshot"
    lock_timeout_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 15
    compaction_batch_size: Annotated[int, Field(ge=1, le=1000)] = 100
    max_batches_per_pass: Annotated[int, Field(ge=1, le=40)] = 40
    max_pass_bytes: Annotated[int, Field(ge=1)] = 512 * MEBIBYTE
    max_passes: Annotated[int, Field(ge=1, le=25)] = 25
    max_delta_bytes: Annotated[int, Field(ge=1)] = 64 * MEBIBYTE
    embedding_function: Annotated[str, Field(min_length=1)] = "wordllama"

    # How things are kept, and for how long.
    kms_key_arn: KeyArn | None = None
    replica_region: Region | None = None
    replica_kms_key_arn: KeyArn | None = None
    compacted_retention_days: Days = 7
    snapshot_retention: Annotated[SnapshotRetention, JSON_OBJECT] = SnapshotRetention()
    version_retention_days: Days = 7
    snapshot_version_days: Days = 3
    log_retention_days: LogDays = 30

    # What differs from the sizes that task_lambdas gives each function.
    memory: Annotated[Mapping[Task, MemoryMb], JSON_OBJECT] = {}
    timeout: Annotated[Mapping[Task, TimeoutSeconds], JSON_OBJECT] = {}
    ephemeral_storage: Annotated[Mapping[Task, StorageMb], JSON_OBJECT] = {}
    reserve_concurrency: bool = True

    # Who is told, where the functions run, and who did what to the data.
    alarm_topic_arn: TopicArn | None = None
    vpc_id: VpcId | None = None
    subnet_ids: SubnetIds = ()
    vpc_endpoints: bool = True
    audit_trail: bool = False

    @model_validator(mode="after")
    def _what_belongs_together_comes_together(self) -> Self:
        if bool(self.vpc_id) != bool(self.subnet_ids):
            given, missing = ("vpcId", "subnetIds") if self.vpc_id else ("subnetIds", "vpcId")
            raise ValueError(f"{NAMESPACE}:{missing} is not set, and {NAMESPACE}:{given} is; set both or neither")
        both = bool(self.kms_key_arn and self.replica_region)
        if both and not self.replica_kms_key_arn:
            raise ValueError(
                f"{NAMESPACE}:replicaKmsKeyArn is not set; with kmsKeyArn and replicaRegion the copies need a key"
                f" in {self.replica_region}"
            )
        if self.replica_kms_key_arn and not both:
            raise ValueError(f"{NAMESPACE}:replicaKmsKeyArn means nothing without both kmsKeyArn and replicaRegion")
        return self

    def refuse_elsewhere(self, region: str) -> None:
        """Raise ConfigurationRefused for what must lie in the stack's own region, or in another, and does not."""
        if self.replica_region == region:
            raise _refused("replicaRegion", self.replica_region, "Should be another region than the stack's own")
        places = [
            ("kmsKeyArn", self.kms_key_arn, region),
            ("alarmTopicArn", self.alarm_topic_arn, region),
            ("replicaKmsKeyArn", self.replica_kms_key_arn, self.replica_region),
        ]
        for name, arn, place in places:
            if arn and arn.split(":")[3] != place:
                raise _refused(name, arn, f"Should be in {place}")


def load_config() -> CompactionConfig:
    """Parse the stack's configuration. Raises ConfigurationRefused naming the first wrong setting."""
    return parse_config(_namespace_values())


def parse_config(values: Mapping[str, Any]) -> CompactionConfig:
    """Parse settings under their camel-case names, without the namespace. Raises ConfigurationRefused."""
    known = {field.alias for field in CompactionConfig.model_fields.values() if field.alias}
    for name in sorted(values.keys() - known):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {NAMESPACE}:{close[0]}?" if close else ""
        raise ConfigurationRefused(f"{NAMESPACE}:{name} is not a setting{hint}")
    if "imageUri" not in values:
        raise ConfigurationRefused(
            f"{NAMESPACE}:imageUri is not set; build and push the image as infra/README.md says, then run:"
            f" pulumi config set {NAMESPACE}:imageUri <account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>"
        )
    try:
        return CompactionConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        why = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise ConfigurationRefused(why) from error
        # A key of a mapping that is wrong in itself is reported under the name "[key]".
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise _refused(where, first["input"], why) from error


def _refused(name: str, value: object, why: str) -> ConfigurationRefused:
    return ConfigurationRefused(f"{NAMESPACE}:{name} = {value!r}: {why}")


def _namespace_values() -> dict[str, Any]:
    # pulumi.Config answers single keys only, and a misspelt key would then be ignored in silence.
    everything = {**pulumi_config.get_config_env(), **pulumi_config.CONFIG.get()}
    prefix = f"{NAMESPACE}:"
    return {name.removeprefix(prefix): value for name, value in everything.items() if name.startswith(prefix)}
