"""Packs: all files of one directory in one object, if they are small together.

The folds of a directory write its whole pack again, also the files in it that did not change, so that one snapshot
needs one pack of it and older ones can be pruned. A file is never shared between packs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from chromadb_compaction.manifest import StoredFile
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore

PACK_BYTES: Final = 4 * 1024 * 1024
"""The most bytes of a directory whose files are packed.

A pack is read and written whole, and in memory: 128 MiB for all threads together. Of more bytes, the transfer takes
longer than the requests that a pack saves, and the files that did not change are worth keeping.
"""


class FileObject(NamedTuple):
    """An object of a snapshot: a pack, or a file that is not packed. `files` are those in it."""

    key: str
    files: tuple[StoredFile, ...]

    @property
    def bytes(self) -> int:
        """The size of the files."""
        return sum(file.bytes for file in self.files)

    def is_in(self, objects: Mapping[str, ObjectInfo]) -> bool:
        """Return whether the object is among `objects`, with the size of its file, or with all bytes of its files."""
        found = objects.get(self.key)
        if found is None:
            return False
        size = found.bytes
        return all(file.end == size if file.offset is None else file.end <= size for file in self.files)


def objects_of(files: Iterable[StoredFile]) -> dict[str, FileObject]:
    """Return the objects that hold the files, by key."""
    found: dict[str, dict[StoredFile, None]] = {}
    for file in files:
        found.setdefault(file.key, {})[file] = None
    return {key: FileObject(key, tuple(held)) for key, held in found.items()}


def read_file(objects: ObjectStore, file: StoredFile) -> bytes:
    """Return the bytes of a file, unchecked. Raises ObjectMissingError."""
    if file.offset is None:
        return objects.get(file.key).body
    return objects.get_range(file.key, file.offset, file.end) if file.bytes else b""


def write_files(objects: ObjectStore, files: Sequence[tuple[StoredFile, Path]]) -> list[str]:
    """Write files of one object to their targets, and return the SHA-256 of each. Raises ObjectMissingError.

    A file of a pack that is too short has fewer bytes, and another SHA-256. Files of a pack cost one request.
    """
    packed = [file for file, _ in files if file.offset is not None]
    start = min((file.offset or 0 for file in packed), default=0)
    end = max((file.end for file in packed), default=0)
    body = objects.get_range(packed[0].key, start, end) if end > start else b""
    found = []
    for file, target in files:
        if file.offset is None:
            found.append(objects.download(file.key, target))
        else:
            part = body[file.offset - start : file.end - start]
            target.write_bytes(part)
            found.append(hashlib.sha256(part).hexdigest())
    return found


def write_pack(
    objects: ObjectStore, key: str, files: Sequence[Path], before: Sequence[StoredFile | None]
) -> list[StoredFile]:
    """Write the files as the pack `key`, and return them as stored. If all are as `before`, write nothing."""
    bodies = [path.read_bytes() for path in files]
    stored: list[StoredFile] = []
    for body in bodies:
        offset = stored[-1].end if stored else 0
        sha256 = hashlib.sha256(body).hexdigest()
        stored.append(StoredFile(key=key, bytes=len(body), sha256=sha256, offset=offset))
    kept = [old for old, new in zip(before, stored, strict=True) if old and old.sha256 == new.sha256]
    if len(kept) == len(stored):
        return kept
    objects.put(key, b"".join(bodies))
    return stored
