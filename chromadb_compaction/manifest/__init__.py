"""The stored formats: the manifest of a snapshot, the pointer that publishes it, and the rule for newer numbers."""

from chromadb_compaction.manifest.collection import CollectionSnapshot, Conservation, PartitionSnapshot, totals
from chromadb_compaction.manifest.pointer import Pointer, commit_id
from chromadb_compaction.manifest.root import Collections, Entry, Manifest, ReadCollection
from chromadb_compaction.manifest.shards import CollectionRef, ReadShard, Shard, ShardedRefs, ShardRef
from chromadb_compaction.manifest.stored import (
    CollectionName,
    Count,
    Fingerprint128,
    LocalPath,
    Sha256,
    SnapshotId,
    Stored,
    StoredFile,
    check_format,
    parse_stored,
)

__all__ = [
    "CollectionName",
    "CollectionRef",
    "CollectionSnapshot",
    "Collections",
    "Conservation",
    "Count",
    "Entry",
    "Fingerprint128",
    "LocalPath",
    "Manifest",
    "PartitionSnapshot",
    "Pointer",
    "ReadCollection",
    "ReadShard",
    "Sha256",
    "Shard",
    "ShardRef",
    "ShardedRefs",
    "SnapshotId",
    "Stored",
    "StoredFile",
    "check_format",
    "commit_id",
    "parse_stored",
    "totals",
]
