"""The identity of a delta: its key and its content. Contents are compared here and nowhere else.

Equal ETags mean equal content. Another size means other content. Another ETag of equal size means nothing: a copy has
another ETag if the bucket encrypts with its own key, or if the original was written in parts. Then SHA-256 decides.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore


class Content(NamedTuple):
    """The identity of a delta's content.

    Attributes:
        etag: An ETag that an object with this content has or had.
        bytes: The size.
        sha256: The SHA-256 in hexadecimal. None if nobody has computed it.
    """

    etag: str
    bytes: int
    sha256: str | None = None


def content_of(stored: ObjectInfo) -> Content:
    """Return what is known of an object's content without reading it."""
    return Content(stored.etag, stored.bytes)


def compare(one: Content, other: Content) -> bool | None:
    """Return whether two contents are the same. None: only their SHA-256 can tell, and one of them has none."""
    if one.etag == other.etag:
        return True
    if one.bytes != other.bytes:
        return False
    if one.sha256 is None or other.sha256 is None:
        return None
    return one.sha256 == other.sha256


def has_merged_content(merged: Content, stored: ObjectInfo, objects: ObjectStore) -> bool:
    """Return whether an object has the content that an outcome records. Read the object if nothing else can tell.

    An outcome of an older version has no SHA-256. Then the size decides, as it did for that version. Raises
    ObjectMissingError if the object has to be read and is gone.
    """
    known = compare(merged, content_of(stored))
    if known is None:
        return merged.sha256 is None or merged.sha256 == read_sha256(stored, objects)
    return known


def have_same_content(one: ObjectInfo, other: ObjectInfo, objects: ObjectStore) -> bool:
    """Return whether two objects have the same content. Read both if nothing else can tell."""
    known = compare(content_of(one), content_of(other))
    return read_sha256(one, objects) == read_sha256(other, objects) if known is None else known


def read_sha256(stored: ObjectInfo, objects: ObjectStore) -> str:
    """Return the SHA-256 of an object. Raises ObjectMissingError."""
    with tempfile.TemporaryDirectory(prefix="chromadb-compaction-") as scratch:
        return objects.download(stored.key, Path(scratch) / "delta")


def twin_error(key: str, twin: str) -> CorruptDeltaError:
    """Return the error for a delta whose name another file has too, in the other format, `twin`."""
    return CorruptDeltaError(
        f"{twin} has the same name, so the rows of both would have the same versions",
        next_step="write the rows of each again under a new UUIDv7, in one format",
        key=key,
    )


def rewritten_error(key: str) -> CorruptDeltaError:
    """Return the error for a delta whose key was written again after other content had been merged under it."""
    return CorruptDeltaError(
        "other content was merged under this key before, and a delta's content never changes",
        next_step="write the rows again under a new UUIDv7",
        key=key,
    )
