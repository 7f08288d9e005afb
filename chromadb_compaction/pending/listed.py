"""Listed deltas: read a pending delta only while it is what the listing found, and nothing else was merged before."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.formats import Delta, read_delta
from chromadb_compaction.deltas.identity import Content, has_merged_content, rewritten_error, twin_error
from chromadb_compaction.deltas.versions import parse_delta_id
from chromadb_compaction.errors import (
    CompactionError,
    CorruptDeltaError,
    DeltaFailedError,
    ObjectMissingError,
    UnreadableObjectError,
)
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services, StoredObject
from chromadb_compaction.settings import Settings


@contextmanager
def attributed(key: str) -> Iterator[None]:
    """Raise DeltaFailedError in place of an unforeseen error, so that it names the delta that caused it."""
    try:
        yield
    except CompactionError:
        raise
    except Exception as error:
        raise DeltaFailedError(
            f"reading {key} failed: {type(error).__name__}: {error}",
            next_step="report this error; set the delta aside: chromadb-compaction deltas quarantine",
            key=key,
        ) from error


def try_fetch(listed: ObjectInfo, services: Services) -> StoredObject | UnreadableObjectError | None:
    """Return what `fetch_delta` does, or the error for an object that cannot be read."""
    try:
        return fetch_delta(listed, services)
    except UnreadableObjectError as error:
        return error


def fetch_delta(listed: ObjectInfo, services: Services) -> StoredObject | None:
    """Return the stored delta. None: it is too large to fetch, or was deleted or written again since the listing.

    Raises UnreadableObjectError.
    """
    if listed.bytes > services.settings.max_delta_bytes:
        return None
    try:
        stored = services.objects.get(listed.key)
    except ObjectMissingError:
        return None
    return stored if stored.etag == listed.etag else None


def parse_delta(listed: ObjectInfo, stored: StoredObject | None, settings: Settings) -> Delta | None:
    """Parse what `fetch_delta` returned. Return None if it was deleted or written again.

    Raises CorruptDeltaError, also for a delta larger than MAX_DELTA_BYTES, and DeltaFailedError for what is unforeseen.
    """
    limit = settings.max_delta_bytes
    if listed.bytes > limit:
        raise CorruptDeltaError(
            f"the file has {listed.bytes} bytes, more than {limit}", next_step="write smaller deltas (1-5 MB)"
        )
    if stored is None:
        return None
    with attributed(listed.key):
        return read_delta(listed.key, stored.body, now=stored.modified, max_bytes=limit, prefix=settings.delta_prefix)


def judge(
    listed: ObjectInfo,
    stored: StoredObject | UnreadableObjectError | None,
    archived: ObjectInfo | None,
    services: Services,
    *,
    twin: str | None = None,
) -> Delta | None:
    """Parse what `try_fetch` returned, and check it against what was merged under its key, the object `archived`.

    `twin` is the key of another file with its name, from `find_twins`. Return None if the delta was deleted or written
    again. Raises the errors of `parse_delta`, CorruptDeltaError for a twin and for other content than was merged, and
    UnreadableObjectError.
    """
    if isinstance(stored, UnreadableObjectError):
        raise stored
    delta = parse_delta(listed, stored, services.settings)
    if delta is not None and twin is not None:
        raise twin_error(listed.key, twin)
    if stored is not None and delta is not None:
        check_not_rewritten(listed, stored, archived, services)
    return delta


def find_archived(listed: Sequence[ObjectInfo], services: Services) -> Mapping[str, ObjectInfo]:
    """Return the copies of these deltas, and of their twins, that are in compacted/ already, by pending key.

    Names order as their times do, so for each collection a listing of the time of its deltas finds them in few calls.
    """
    prefix = services.settings.delta_prefix
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for each in listed:
        for key in (each.key, layout.twin_key(each.key)) if is_named_well(each.key, prefix) else ():
            if key is not None:
                copy = layout.compacted_key(key, prefix=prefix)
                folders[copy.rpartition("/")[0] + "/"][copy] = key
    found = in_threads(lambda folder: _find_copies(folder, folders[folder], services), folders)
    return {pending: copy for copies in found for pending, copy in copies.items()}


def find_twins(listed: Sequence[ObjectInfo], archived: Mapping[str, ObjectInfo]) -> dict[str, str]:
    """Return the other file of each delta whose name has two, in two formats: `archived` already, or listed too.

    The rows of both would have the same versions, so neither order of them would be right: both are refused, unless one
    was merged before the other was written. `archived` is the result of `find_archived`.
    """
    keys = {each.key for each in listed}
    twins = {key: layout.twin_key(key) for key in keys if key not in archived}
    return {key: twin for key, twin in twins.items() if twin in keys or (twin is not None and twin in archived)}


def _find_copies(folder: str, wanted: Mapping[str, str], services: Services) -> dict[str, ObjectInfo]:
    first, last = min(wanted), max(wanted)
    found: dict[str, ObjectInfo] = {}
    # The listing starts after the given key, and a shorter key comes before a longer one.
    for info in services.objects.list(folder, start_after=first[:-1]):
        if info.key > last:
            break
        if info.key in wanted:
            found[wanted[info.key]] = info
    return found


def check_not_rewritten(
    listed: ObjectInfo, stored: StoredObject, archived: ObjectInfo | None, services: Services
) -> None:
    """Raise CorruptDeltaError if other content was merged under the delta's key: `archived` is its copy, if any.

    The rows of both would have the same versions, so merging this one too would make a mixture.
    """
    if archived is not None:
        content = Content(listed.etag, listed.bytes, hashlib.sha256(stored.body).hexdigest())
        if not has_merged_content(content, archived, services.objects):
            raise rewritten_error(listed.key)


def is_named_well(key: str, prefix: str) -> bool:
    """Return whether a delta of this key can be merged at all: the key has a UUIDv7."""
    try:
        parse_delta_id(layout.parse_delta_key(key, prefix=prefix).stem, now=math.inf)
    except CorruptDeltaError:
        return False
    return True
