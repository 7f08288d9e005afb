"""The keys of snapshots, and the names of a snapshot's folders."""

from __future__ import annotations

import hashlib
import re

from chromadb_compaction.layout.names import COLLECTION_FILE, PACK_FILE, SNAPSHOT_PREFIX

_SNAPSHOT_ID = re.compile(r"([0-9]{10})-([0-9a-f]{8})")
_PARTITION_FOLDER = re.compile(r"partition-[0-9a-f]{12}")


def new_snapshot_id(sequence: int, token: str) -> str:
    """Return e.g. 0000000042-3f2a9c1b: 10-digit sequence, then `token`, 8 hexadecimal digits that make it unique."""
    return f"{sequence:010d}-{token}"


def snapshot_sequence(snapshot_id: str) -> int:
    """Return the sequence number of a snapshot id. Raises ValueError for text that is not one."""
    match = _SNAPSHOT_ID.fullmatch(snapshot_id)
    if not match:
        raise ValueError(f"{snapshot_id!r} is not a snapshot id such as 0000000042-3f2a9c1b")
    return int(match[1])


def pointer_key(*, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of the pointer, the one object that names the published snapshot."""
    return f"{prefix}CURRENT"


def kept_key(*, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of the list of kept snapshots."""
    return f"{prefix}kept.json"


def sequence_prefix(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the prefix of all snapshots with the sequence of this one: also of uploads that it has overtaken."""
    return f"{prefix}{snapshot_id.partition('-')[0]}-"


def manifest_key(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of a snapshot's manifest."""
    return f"{prefix}{snapshot_id}/manifest.json"


def shard_key(snapshot_id: str, number: int, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of a shard of a manifest, as this snapshot wrote it."""
    return f"{prefix}{snapshot_id}/shard-{number:04d}.json"


def merged_deltas_key(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of the list of deltas that this snapshot merged: for clean-up, replay and `why`."""
    return f"{prefix}{snapshot_id}/deltas.json.gz"


def result_key(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of UploadSnapshot's result for this snapshot, for a retry after a lost response."""
    return f"{prefix}{snapshot_id}/result.json"


def cleaned_key(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of the marker that this snapshot's clean-up is finished."""
    return f"{prefix}{snapshot_id}/cleaned.json"


def pruning_prefix(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the prefix of the marks of clean-ups that are about to delete this snapshot."""
    return f"{prefix}{snapshot_id}/pruning-"


def claim_prefix(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the prefix of the marks of rollbacks that are about to publish this snapshot."""
    return f"{prefix}{snapshot_id}/claim-"


def mark_key(marks: str, token: str) -> str:
    """Return the key of one mark under `marks`, a pruning_prefix or claim_prefix. `token` makes it unique."""
    return f"{marks}{token}.json"


def is_mark(key: str, marks: str) -> bool:
    """Return whether the key is that of a mark under `marks`, and not of a collection whose name begins as marks do."""
    return key.startswith(marks) and "/" not in key.removeprefix(marks)


def snapshot_file_key(snapshot_id: str, collection: str, path: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of one file of one collection's ChromaDB directory, or of its ledger."""
    return f"{prefix}{snapshot_id}/{collection}/{path}"


def collection_key(snapshot_id: str, collection: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of the description of a collection, as this snapshot wrote it."""
    return snapshot_file_key(snapshot_id, collection, COLLECTION_FILE, prefix=prefix)


def partition_folder(first: str) -> str:
    """Return the folder of the partition that begins at the id `first`, inside its collection's folder.

    It depends on that id alone, so that a split renames no other partition.
    """
    return f"partition-{hashlib.sha256(first.encode()).hexdigest()[:12]}"


def pack_key(key: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of the pack that may have the file of `key`: the pack of its collection, or of its partition."""
    snapshot_id, collection, *path = key.removeprefix(prefix).split("/")
    folder = [path[0]] if _PARTITION_FOLDER.fullmatch(path[0]) else []
    return prefix + "/".join([snapshot_id, collection, *folder, PACK_FILE])


def snapshot_of_key(key: str, *, prefix: str = SNAPSHOT_PREFIX) -> str | None:
    """Return the snapshot id in `key`, or None for the pointer and foreign objects."""
    head = key.removeprefix(prefix).partition("/")[0]
    return head if key.startswith(prefix) and _SNAPSHOT_ID.fullmatch(head) else None


def collection_of_file(key: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the collection of a key below a snapshot's folder. For an object of the snapshot itself, its own name."""
    return key.removeprefix(prefix).split("/", 2)[1]


def collection_folder(key: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the folder of the collection in the snapshot to which `key` belongs."""
    return prefix + "".join(f"{part}/" for part in key.removeprefix(prefix).split("/")[:2])
