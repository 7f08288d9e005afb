"""The prefixes of the bucket, the names of files, and the rule for names of collections."""

from __future__ import annotations

import re

from chromadb_compaction.errors import CorruptDeltaError

DELTA_PREFIX = "delta/"
COMPACTED_PREFIX = "compacted/"
QUARANTINE_PREFIX = "quarantine/"
WORK_PREFIX = "work/"
SNAPSHOT_PREFIX = "snapshot/"
FIXED_PREFIXES = (COMPACTED_PREFIX, QUARANTINE_PREFIX, WORK_PREFIX)
DELTA_SUFFIXES = (".parquet", ".jsonl.gz")
LEDGER_FILE = "ledger.parquet"
COLLECTION_FILE = "collection.json"
PACK_FILE = "files.pack"
LONGEST_KEY = 1024
"""The longest key that S3 accepts, in bytes of UTF-8."""
NO_COLLECTION = "(no collection)"
"""The name used for every folder that is not a valid collection name."""
_COLLECTION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,253}[a-zA-Z0-9]")
_IPV4 = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")


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
