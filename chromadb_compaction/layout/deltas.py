"""The keys of deltas: pending, merged, and in quarantine."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.layout.names import (
    COMPACTED_PREFIX,
    DELTA_PREFIX,
    DELTA_SUFFIXES,
    LONGEST_KEY,
    QUARANTINE_PREFIX,
    check_collection_name,
)

REASON_SUFFIX = ".reason.json"
RENAMED_PREFIX = f"{QUARANTINE_PREFIX}_renamed/"
"""Never a collection's folder, since a collection's name begins with a letter or digit."""


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
