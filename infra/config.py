"""What an operator may set: `pulumi config set chromadb:<name> <value>`. Parsed once, wrong values refused by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pulumi
from pulumi.runtime import config as pulumi_config
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

NAMESPACE = "chromadb"
PACKAGE_DIR = Path(__file__).parent.parent / "dist" / "lambda"
MEBIBYTE = 1024 * 1024

_RATE = re.compile(r"rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)")
_LOG_RETENTIONS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
_CRON = re.compile(r"cron\(\S+( \S+){5}\)")


class ConfigurationRefused(pulumi.RunError):
    """A `chromadb:` setting is missing, misspelt or out of range. Pulumi prints the message without a traceback."""


def _is_schedule(text: str) -> str:
    if not _RATE.fullmatch(text) and not _CRON.fullmatch(text):
        raise ValueError("Should be an EventBridge schedule: rate(15 minutes), rate(1 hour) or cron(0 3 * * ? *)")
    return text


def _is_log_retention(days: int) -> int:
    if days not in _LOG_RETENTIONS:
        raise ValueError(f"Should be one of the numbers of days that CloudWatch knows: {_LOG_RETENTIONS}")
    return days


Schedule = Annotated[str, AfterValidator(_is_schedule)]
Days = Annotated[int, Field(ge=1, le=3650)]


class CompactionConfig(BaseModel):
    """The `chromadb:` namespace, where `lock_timeout_minutes` is spelt `chromadb:lockTimeoutMinutes`.

    Defaults and bounds of what the functions read are those of the functions themselves; a test holds them together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    # The container image of the functions that need ChromaDB or pyarrow; the directory of the others' zip.
    image_uri: Annotated[str, Field(pattern=r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[^\s:@]+[:@]\S+$")]
    package_dir: Path = PACKAGE_DIR

    # The workflow.
    compaction_schedule: Schedule = "rate(15 minutes)"
    enable_compaction: bool = True
    existing_table: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")] | None = None
    lock_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")] = "chroma-main-snapshot"
    lock_timeout_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 15
    compaction_batch_size: Annotated[int, Field(ge=1, le=1000)] = 100
    max_batches_per_pass: Annotated[int, Field(ge=1, le=40)] = 40
    max_pass_bytes: Annotated[int, Field(ge=1)] = 512 * MEBIBYTE
    max_passes: Annotated[int, Field(ge=1, le=25)] = 25
    max_delta_bytes: Annotated[int, Field(ge=1)] = 64 * MEBIBYTE
    embedding_function: Annotated[str, Field(min_length=1)] = "wordllama"

    # How long things are kept.
    compacted_retention_days: Days = 7
    snapshot_retention_count: Annotated[int, Field(ge=1)] = 10
    snapshot_retention_days: Annotated[float, Field(gt=0)] = 1
    version_retention_days: Days = 7
    snapshot_version_days: Days = 3
    log_retention_days: Annotated[int, AfterValidator(_is_log_retention)] = 30

    # The size of the functions. 3008 MB is what every AWS account may use without asking for more.
    compactor_memory_mb: Annotated[int, Field(ge=512, le=10240)] = 3008
    compactor_storage_mb: Annotated[int, Field(ge=512, le=10240)] = 10240
    query_memory_mb: Annotated[int, Field(ge=512, le=10240)] = 3008
    query_storage_mb: Annotated[int, Field(ge=512, le=10240)] = 10240
    reserve_concurrency: bool = True


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
        raise ConfigurationRefused(f"{NAMESPACE}:{first['loc'][0]} = {first['input']!r}: {why}") from error


def _namespace_values() -> dict[str, Any]:
    # pulumi.Config answers single keys only, and a misspelt key would then be ignored in silence.
    everything = {**pulumi_config.get_config_env(), **pulumi_config.CONFIG.get()}
    prefix = f"{NAMESPACE}:"
    return {name.removeprefix(prefix): value for name, value in everything.items() if name.startswith(prefix)}
