"""Names for the shell's completion, read with few requests and short timeouts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from chromadb_compaction.settings import Settings

_QUICK: Final = Config(connect_timeout=0.5, read_timeout=0.8, retries={"total_max_attempts": 1})


def collection_names(settings: Settings) -> list[str]:
    """Return the published collections. Any error of boto3, or of a damaged snapshot, is raised."""
    client, prefix = _client(), settings.snapshot_prefix
    pointer = json.loads(_read(client, settings, layout.pointer_key(prefix=prefix)))
    manifest = json.loads(_read(client, settings, layout.manifest_key(pointer["snapshot_id"], prefix=prefix)))
    found = manifest["collections"]
    if isinstance(found, dict):
        return sorted(found)
    keys = [layout.shard_key(each["snapshot_id"], number, prefix=prefix) for number, each in enumerate(found)]
    shards = in_threads(lambda key: json.loads(_read(client, settings, key)), keys)
    return sorted(name for shard in shards for name in shard["collections"])


def snapshot_ids(settings: Settings) -> list[str]:
    """Return up to a thousand ids under the snapshot prefix. Any error of boto3 is raised."""
    prefix = settings.snapshot_prefix
    listed = _client().list_objects_v2(Bucket=settings.chromadb_bucket, Prefix=prefix, Delimiter="/")
    ids = (layout.snapshot_of_key(each["Prefix"], prefix=prefix) for each in listed.get("CommonPrefixes", ()))
    return sorted(filter(None, ids), reverse=True)


def _client() -> S3Client:
    return boto3.client("s3", config=_QUICK)


def _read(client: S3Client, settings: Settings, key: str) -> bytes:
    return client.get_object(Bucket=settings.chromadb_bucket, Key=key)["Body"].read()
