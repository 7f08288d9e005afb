"""The keys of the bucket. All of them are built and parsed here and nowhere else."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from chromadb_compaction.errors import CorruptDeltaError

DELTA_PREFIX = "delta/"
COMPACTED_PREFIX = "compacted/"
QUARANTINE_PREFIX = "quarantine/"
WORK_PREFIX = "work/"
ATTEMPTS_PREFIX = f"{WORK_PREFIX}attempts/"
RUNNING_PREFIX = f"{ATTEMPTS_PREFIX}running/"
COLLECTION_ATTEMPTS_PREFIX = f"{ATTEMPTS_PREFIX}collections/"
SNAPSHOT_PREFIX = "snapshot/"
FIXED_PREFIXES = (COMPACTED_PREFIX, QUARANTINE_PREFIX, WORK_PREFIX)
DELTA_SUFFIXES = (".parquet", ".jsonl.gz")
LEDGER_FILE = "ledger.parquet"
COLLECTION_FILE = "collection.json"
PACK_FILE = "files.pack"
REASON_SUFFIX = ".reason.json"
RENAMED_PREFIX = f"{QUARANTINE_PREFIX}_renamed/"
"""Never a collection's folder, since a collection's name begins with a letter or digit."""
LONGEST_KEY = 1024
"""The longest key that S3 accepts, in bytes of UTF-8."""
NO_COLLECTION = "(no collection)"
"""The name used for every folder that is not a valid collection name."""

_COLLECTION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,253}[a-zA-Z0-9]")
_IPV4 = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_SNAPSHOT_ID = re.compile(r"([0-9]{10})-([0-9a-f]{8})")
_PARTITION_FOLDER = re.compile(r"partition-[0-9a-f]{12}")


class DeltaName(NamedTuple):
    """The parts of a delta's key.

    Attributes:
        collection: The collection that the delta changes.
        stem: The file name without its suffix: a UUIDv7.
        suffix: One of DELTA_SUFFIXES.
    """

    collection: str
    stem: str
    suffix: str


def check_collection_name(name: str) -> str:
    """Return `name` if it is a valid collection name. Raises CorruptDeltaError with the rule.

    The rule is ChromaDB 1.5.9's, except for the length: ChromaDB allows 512 characters, but the name is also a
    directory's, and those have at most 255.
    """
    if not _COLLECTION.fullmatch(name) or ".." in name or _IPV4.fullmatch(name):
        raise CorruptDeltaError(
            f"the collection name {name!r} breaks the rule",
            next_step="use 3 to 255 characters (ChromaDB: 512) from [a-zA-Z0-9._-], first and last a letter or digit,"
            " no two periods in a row, not an IPv4 address",
        )
    return name


def collection_of_key(key: str, *, prefix: str = DELTA_PREFIX) -> str:
    """Return the collection of a pending delta. NO_COLLECTION if its folder is not a valid collection name."""
    try:
        return check_collection_name(key.removeprefix(prefix).rpartition("/")[0])
    except CorruptDeltaError:
        return NO_COLLECTION


def collection_prefix(collection: str, *, prefix: str = DELTA_PREFIX) -> str:
    """Return the folder of a collection's pending deltas: delta/{collection}/."""
    return f"{prefix}{collection}/"


def delta_key(collection: str, stem: str, suffix: str = ".parquet", *, prefix: str = DELTA_PREFIX) -> str:
    """Return the key of a pending delta."""
    return f"{collection_prefix(collection, prefix=prefix)}{stem}{suffix}"


def parse_delta_key(key: str, *, prefix: str = DELTA_PREFIX) -> DeltaName:
    """Split a pending delta's key. Raises CorruptDeltaError if it is not {prefix}{collection}/{uuid7}{suffix}."""
    collection, slash, name = key.removeprefix(prefix).partition("/")
    suffix = _delta_suffix(name)
    if not key.startswith(prefix) or not slash or "/" in name or not suffix:
        raise CorruptDeltaError(
            f"the key {key!r} does not have the form {prefix}{{collection}}/{{uuid7}}.parquet (or .jsonl.gz)", key=key
        )
    return DeltaName(check_collection_name(collection), name.removesuffix(suffix), suffix)


def _delta_suffix(name: str) -> str:
    return next((suffix for suffix in DELTA_SUFFIXES if name.endswith(suffix)), "")


def twin_key(key: str) -> str | None:
    """Return the key of the other format of the same delta name. None for a key without a delta's suffix."""
    suffix = _delta_suffix(key)
    other = {name: next(each for each in DELTA_SUFFIXES if each != name) for name in DELTA_SUFFIXES}
    return key.removesuffix(suffix) + other[suffix] if suffix else None


def delta_stem(key: str) -> str:
    """Return the file name without suffix of a pending, compacted or quarantined delta, valid or not."""
    name = key.rpartition("/")[2]
    return name.removesuffix(_delta_suffix(name))


def is_folder_marker(key: str) -> bool:
    """Return whether `key` is one of the empty objects that S3 consoles create for a folder."""
    return key.endswith("/")


def is_delta(key: str) -> bool:
    """Return whether `key`, pending, compacted or quarantined, is a delta's: not a folder marker or a reason."""
    return not is_folder_marker(key) and not is_reason_key(key)


def compacted_key(key: str, *, prefix: str = DELTA_PREFIX) -> str:
    """Return the key to which CleanUp moves a merged delta."""
    return COMPACTED_PREFIX + key.removeprefix(prefix)


def pending_key(moved: str, *, prefix: str = DELTA_PREFIX) -> str:
    """Return the pending key of a merged or quarantined delta: the inverse of compacted_key and quarantine_key.

    For a delta that quarantine_key renamed, the result is not the key that it had. Its reason has that key.
    """
    for folder in (COMPACTED_PREFIX, QUARANTINE_PREFIX):
        if moved.startswith(folder):
            return prefix + moved.removeprefix(folder)
    raise ValueError(f"{moved!r} is neither a compacted nor a quarantined delta")


def quarantine_key(key: str, *, prefix: str = DELTA_PREFIX) -> str:
    """Return the key in quarantine for a delta.

    A delta is renamed to a digest of its key if it would look like a reason there, or if its reason's key would be
    too long for S3. The reason beside it has the original key.
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
    """Return the key of the reason beside a quarantined delta, e.g. quarantine/docs/{uuid7}.parquet.reason.json."""
    return f"{quarantined}{REASON_SUFFIX}"


def former_reason_key(quarantined: str) -> str:
    """Return the key under which older versions stored the reason: one for both formats of a delta's name."""
    return f"{quarantined.removesuffix(_delta_suffix(quarantined))}{REASON_SUFFIX}"


def is_reason_key(key: str) -> bool:
    """Return whether `key` is the key of a reason."""
    return key.endswith(REASON_SUFFIX)


def execution_name(execution: str) -> str:
    """Return the last part of an execution's ARN."""
    return execution.rpartition(":")[2]


def work_prefix(execution: str, pass_number: int) -> str:
    """Return the folder of one pass of one execution: work/{execution}/{pass}/."""
    return f"{WORK_PREFIX}{execution_name(execution)}/{pass_number}/"


def batch_key(execution: str, pass_number: int, number: int) -> str:
    """Return the key of a batch's manifest: the list of its deltas."""
    return f"{work_prefix(execution, pass_number)}batches/{number:04d}.json"


def run_key(batch: str) -> str:
    """Return the key of the run that MergeBatch makes of `batch`, a batch_key."""
    return batch.replace("/batches/", "/runs/").removesuffix(".json") + ".parquet"


def report_key(batch: str) -> str:
    """Return the key of the report that MergeBatch writes about `batch`, a batch_key."""
    return batch.replace("/batches/", "/reports/")


def parts_key(batch: str) -> str:
    """Return the key of the list of the parts of a batch's run: one for each collection."""
    return batch.replace("/batches/", "/runs/")


def batch_of_report(report: str) -> str:
    """Return the key of the batch of a report: the inverse of report_key."""
    return report.replace("/reports/", "/batches/")


def batch_number(batch: str) -> str:
    """Return the number of a batch within its pass, as people read it, e.g. 0007."""
    return batch.rpartition("/")[2].removesuffix(".json")


def shapes_key(execution: str, pass_number: int) -> str:
    """Return the key of the collections' shapes (dimension, space) for the batches of a pass."""
    return f"{work_prefix(execution, pass_number)}collections.json"


def outcome_key(execution: str, pass_number: int) -> str:
    """Return the key of the delta outcomes of a pass that had nothing to publish."""
    return f"{work_prefix(execution, pass_number)}deltas.json.gz"


def fold_plan_key(execution: str, pass_number: int) -> str:
    """Return the key of the plan of a pass's folds, of which other functions do a part."""
    return f"{work_prefix(execution, pass_number)}folds/plan.json"


def fold_item_key(execution: str, pass_number: int, number: int) -> str:
    """Return the key of the folds that one other function does."""
    return f"{work_prefix(execution, pass_number)}folds/{number:04d}.json"


def folded_part_key(item: str, token: str) -> str:
    """Return the key of the part of the manifest that an attempt of `item`, a fold_item_key, has made.

    `token` is the attempt's own.
    """
    return f"{item.removesuffix('.json')}/{token}.json"


def item_of_part(part: str) -> str:
    """Return the key of the item of a part of the manifest: the inverse of folded_part_key."""
    return f"{part.rpartition('/')[0]}.json"


def deferred_key(execution: str, pass_number: int) -> str:
    """Return the key of the list of collections that wait for a later pass."""
    return f"{work_prefix(execution, pass_number)}deferred.json"


def attempts_prefix(key: str, etag: str) -> str:
    """Return the folder of the marks about one delta that could not be merged. Other content has another folder."""
    return f"{ATTEMPTS_PREFIX}{hashlib.sha256(f'{key} {etag}'.encode()).hexdigest()[:32]}/"


def unreadable_key(key: str, etag: str) -> str:
    """Return the key of the mark that a delta cannot be read. Each execution writes it again."""
    return f"{attempts_prefix(key, etag)}unreadable.json"


def collection_attempts_prefix(collection: str) -> str:
    """Return the folder of the marks about one collection that could not be folded."""
    return f"{COLLECTION_ATTEMPTS_PREFIX}{collection}/"


def failure_key(folder: str, execution: str) -> str:
    """Return the key of the mark that what `folder` is about made `execution` fail."""
    return f"{folder}{execution_name(execution)}.failed.json"


def suspicion_key(folder: str, execution: str) -> str:
    """Return the key of the mark that what `folder` is about, or something else, made `execution` fail."""
    return f"{folder}{execution_name(execution)}.suspected.json"


def running_key(execution: str, pass_number: int, task: str) -> str:
    """Return the key of the mark that a process of `execution` works on `task`."""
    return f"{RUNNING_PREFIX}{execution_name(execution)}/{pass_number}/{task}.json"


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
