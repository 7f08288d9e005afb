"""Where everything stands in the bucket. All keys are built and parsed here and nowhere else."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from chromadb_compaction.errors import CorruptDeltaError

DELTA_PREFIX = "delta/"
COMPACTED_PREFIX = "compacted/"
QUARANTINE_PREFIX = "quarantine/"
WORK_PREFIX = "work/"
SNAPSHOT_PREFIX = "snapshot/"
FIXED_PREFIXES = (COMPACTED_PREFIX, QUARANTINE_PREFIX, WORK_PREFIX)
DELTA_SUFFIXES = (".parquet", ".jsonl.gz")
LEDGER_FILE = "ledger.parquet"
REASON_SUFFIX = ".reason.json"
RENAMED_PREFIX = f"{QUARANTINE_PREFIX}_renamed/"
"""No collection's folder, since a collection's name begins with a letter or digit."""
LONGEST_KEY = 1024
"""Bytes of UTF-8 that S3 takes."""
NO_COLLECTION = "(no collection)"
"""Stands for every folder whose name no collection can have."""

_COLLECTION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,253}[a-zA-Z0-9]")
_IPV4 = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_SNAPSHOT_ID = re.compile(r"([0-9]{10})-([0-9a-f]{8})")


class DeltaName(NamedTuple):
    """What a delta's key says: its collection, its name without suffix, and its format's suffix."""

    collection: str
    stem: str
    suffix: str


def check_collection_name(name: str) -> str:
    """Return `name` if ChromaDB 1.5.9 accepts it for a collection, else raise CorruptDeltaError saying its rule.

    ChromaDB takes up to 512 characters, but ours are the names of directories too, and those end at 255.
    """
    if not _COLLECTION.fullmatch(name) or ".." in name or _IPV4.fullmatch(name):
        raise CorruptDeltaError(
            f"the collection name {name!r} breaks the rule: 3 to 255 characters (ChromaDB: 512) from [a-zA-Z0-9._-],"
            " first and last a letter or digit, no two periods in a row, not an IPv4 address"
        )
    return name


def collection_of_key(key: str, *, prefix: str = DELTA_PREFIX) -> str:
    """Return the collection that a pending delta is meant for; NO_COLLECTION if its folder can be none's."""
    try:
        return check_collection_name(key.removeprefix(prefix).rpartition("/")[0])
    except CorruptDeltaError:
        return NO_COLLECTION


def delta_key(collection: str, stem: str, suffix: str = ".parquet", *, prefix: str = DELTA_PREFIX) -> str:
    """Return the key of a pending delta."""
    return f"{prefix}{collection}/{stem}{suffix}"


def parse_delta_key(key: str, *, prefix: str = DELTA_PREFIX) -> DeltaName:
    """Split a pending delta's key. Raises CorruptDeltaError when it has not the form {collection}/{uuid7}{suffix}."""
    collection, slash, name = key.removeprefix(prefix).partition("/")
    suffix = next((s for s in DELTA_SUFFIXES if name.endswith(s)), "")
    if not key.startswith(prefix) or not slash or "/" in name or not suffix:
        raise CorruptDeltaError(
            f"the key {key!r} has not the form {prefix}{{collection}}/{{uuid7}}.parquet (or .jsonl.gz)"
        )
    return DeltaName(check_collection_name(collection), name.removesuffix(suffix), suffix)


def delta_stem(key: str) -> str:
    """Return a delta's name without its suffix, wherever it stands and however it is called."""
    name = key.rpartition("/")[2]
    return name.removesuffix(next((s for s in DELTA_SUFFIXES if name.endswith(s)), ""))


def is_folder_marker(key: str) -> bool:
    """Say whether `key` is one of the empty objects with which consoles draw folders."""
    return key.endswith("/")


def compacted_key(key: str, *, prefix: str = DELTA_PREFIX) -> str:
    """Return where a merged delta goes."""
    return COMPACTED_PREFIX + key.removeprefix(prefix)


def pending_key(compacted: str, *, prefix: str = DELTA_PREFIX) -> str:
    """Return where a merged or quarantined delta came from: the inverse of compacted_key and quarantine_key.

    Of one that was renamed this is no key that it had.
    """
    for moved in (COMPACTED_PREFIX, QUARANTINE_PREFIX):
        if compacted.startswith(moved):
            return prefix + compacted.removeprefix(moved)
    raise ValueError(f"{compacted!r} is neither a compacted nor a quarantined delta")


def quarantine_key(key: str, *, prefix: str = DELTA_PREFIX) -> str:
    """Return where a refused delta goes, byte for byte.

    One whose place would pass for a reason's, or leave no room for its own reason's key, gets a digest for a name: the
    reason beside it tells the key that it had.
    """
    kept = QUARANTINE_PREFIX + key.removeprefix(prefix)
    if (
        not is_reason_key(kept)
        and not kept.startswith(RENAMED_PREFIX)
        and len(reason_key(kept).encode()) <= LONGEST_KEY
    ):
        return kept
    return RENAMED_PREFIX + hashlib.sha256(key.encode()).hexdigest()


def reason_key(quarantined: str) -> str:
    """Return the key of the reason beside a quarantined delta, e.g. quarantine/docs/{uuid7}.reason.json."""
    suffix = next((s for s in DELTA_SUFFIXES if quarantined.endswith(s)), "")
    return f"{quarantined.removesuffix(suffix)}{REASON_SUFFIX}"


def is_reason_key(key: str) -> bool:
    """Say whether `key` is a reason's, and not a delta's."""
    return key.endswith(REASON_SUFFIX)


def execution_name(execution: str) -> str:
    """Return the last part of an execution's ARN."""
    return execution.rpartition(":")[2]


def work_prefix(execution: str, pass_number: int) -> str:
    """Return the folder of one pass of one execution: work/{execution}/{pass}/."""
    return f"{WORK_PREFIX}{execution_name(execution)}/{pass_number}/"


def batch_key(execution: str, pass_number: int, number: int) -> str:
    """Return the key of a batch's manifest: which deltas it holds."""
    return f"{work_prefix(execution, pass_number)}batches/{number:04d}.json"


def run_key(batch: str) -> str:
    """Return the key of the run that MergeBatch makes of the batch under `batch`."""
    return batch.replace("/batches/", "/runs/").removesuffix(".json") + ".parquet"


def report_key(batch: str) -> str:
    """Return the key of the report that MergeBatch writes of the batch under `batch`."""
    return batch.replace("/batches/", "/reports/")


def batch_of_report(report: str) -> str:
    """Return the key of the batch that the report under `report` tells of: the inverse of report_key."""
    return report.replace("/reports/", "/batches/")


def batch_number(batch: str) -> str:
    """Return how people tell a pass's batches apart: the last part of the key, e.g. 0007."""
    return batch.rpartition("/")[2].removesuffix(".json")


def shapes_key(execution: str, pass_number: int) -> str:
    """Return the key of the collections' shapes (dimension, space) that every batch of a pass must fit."""
    return f"{work_prefix(execution, pass_number)}collections.json"


def outcome_key(execution: str, pass_number: int) -> str:
    """Return the key of what became of each delta of a pass that had nothing to publish."""
    return f"{work_prefix(execution, pass_number)}deltas.json.gz"


def new_snapshot_id(sequence: int, token: str) -> str:
    """Return e.g. 0000000042-3f2a9c1b: 10-digit sequence, then `token`, 8 hexadecimal digits that make it fresh."""
    return f"{sequence:010d}-{token}"


def snapshot_sequence(snapshot_id: str) -> int:
    """Return the sequence number of a snapshot id. Raises ValueError for text that is not one."""
    match = _SNAPSHOT_ID.fullmatch(snapshot_id)
    if not match:
        raise ValueError(f"{snapshot_id!r} is not a snapshot id such as 0000000042-3f2a9c1b")
    return int(match[1])


def pointer_key(*, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of the one object that says which snapshot is published."""
    return f"{prefix}CURRENT"


def manifest_key(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of a snapshot's manifest."""
    return f"{prefix}{snapshot_id}/manifest.json"


def merged_deltas_key(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of the list of deltas that this snapshot merged: for clean-up, replay and `why`."""
    return f"{prefix}{snapshot_id}/deltas.json.gz"


def result_key(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of what UploadSnapshot answered for this snapshot, for a retry whose first answer was lost."""
    return f"{prefix}{snapshot_id}/result.json"


def cleaned_key(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of the marker that says this snapshot's clean-up is finished."""
    return f"{prefix}{snapshot_id}/cleaned.json"


def pruning_prefix(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return what the keys begin with by which clean-ups say that they are about to delete this snapshot."""
    return f"{prefix}{snapshot_id}/pruning-"


def claim_prefix(snapshot_id: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return what the keys begin with by which rollbacks say that they are about to publish this snapshot."""
    return f"{prefix}{snapshot_id}/claim-"


def snapshot_file_key(snapshot_id: str, collection: str, path: str, *, prefix: str = SNAPSHOT_PREFIX) -> str:
    """Return the key of one file of one collection's ChromaDB directory, or of its ledger."""
    return f"{prefix}{snapshot_id}/{collection}/{path}"


def snapshot_of_key(key: str, *, prefix: str = SNAPSHOT_PREFIX) -> str | None:
    """Return the snapshot id that `key` stands under, or None for the pointer and foreign objects."""
    head = key.removeprefix(prefix).partition("/")[0]
    return head if key.startswith(prefix) and _SNAPSHOT_ID.fullmatch(head) else None
