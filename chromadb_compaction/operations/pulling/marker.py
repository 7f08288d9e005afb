"""The marker in each directory that a pull has filled: what was put there, so that later changes are noticed.

A ChromaDB client writes to `chroma.sqlite3` even when it only reads, but then only to the table `acquire_write`. So
that file is compared by the tables that a write changes.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from chromadb_compaction.chroma.schema import SQLITE_FILE
from chromadb_compaction.errors import NewerFormatError
from chromadb_compaction.manifest import parse_stored

MARKER: Final = ".pulled.json"
_OF_OPEN_DATABASES: Final = ("-wal", "-shm", "-journal")
_WRITTEN: Final = (
    "SELECT id, name, dimension, database_id, config_json_str, schema_str FROM collections ORDER BY id",
    "SELECT * FROM collection_metadata ORDER BY collection_id, key",
    "SELECT id, type, scope, collection FROM segments ORDER BY id",
    "SELECT segment_id, seq_id FROM max_seq_id ORDER BY segment_id",
    "SELECT max(seq_id) FROM embeddings_queue",
)
"""Rows of which every write through ChromaDB's API changes some."""

Content = Mapping[str, Mapping[str, str]]
"""The SHA-256 of each file in the manifest, by collection and path."""


class CopiedFile(BaseModel):
    """A file as it was put there. One of the same size and time is not read again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int
    modified_ns: int


class Marker(BaseModel):
    """The content of a directory when a pull had filled it.

    Attributes:
        format: The version of this format.
        snapshot_id: The snapshot.
        collections: The content, from the snapshot's manifest.
        merged: Whether the directory was made of several.
        files: The files, by path.
        written: The digest of the tables that a write changes, of all partitions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    snapshot_id: str
    collections: dict[str, dict[str, str]]
    merged: bool
    files: dict[str, CopiedFile]
    written: str


def read_marker(directory: Path) -> Marker | None:
    """Return the marker. None if there is none, or if it is damaged. Raises NewerFormatError."""
    path = directory / MARKER
    try:
        return parse_stored(Marker, path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    except NewerFormatError as error:
        raise NewerFormatError(f"a newer version filled {directory}", next_step=error.next_step) from error


def write_marker(directory: Path, snapshot_id: str, content: Content, *, merged: bool) -> None:
    """Write the marker of a directory whose files are in place."""
    stated = {} if merged else next(iter(content.values()))
    marker = Marker(
        snapshot_id=snapshot_id,
        collections={name: dict(held) for name, held in content.items()},
        merged=merged,
        files={path: _describe(directory / path, stated.get(path)) for path in _paths(directory)},
        written=_written(directory),
    )
    (directory / MARKER).write_text(marker.model_dump_json(indent=2), encoding="utf-8")


def changed_since(directory: Path, marker: Marker) -> list[str]:
    """Return the paths of the files that were changed, added or deleted since the pull, sorted."""
    changed = [path for path in {*_paths(directory), *marker.files} if not is_untouched(directory, path, marker)]
    if changed and _written(directory) == marker.written:
        changed = [path for path in changed if not _is_database(path) or not (directory / path).is_file()]
    return sorted(changed)


def is_untouched(directory: Path, path: str, marker: Marker) -> bool:
    """Return whether the file has the very bytes that were put there."""
    known = marker.files.get(path)
    if known is None or not (directory / path).is_file():
        return False
    return _has_size_and_time(directory / path, known) or _sha256(directory / path) == known.sha256


def _is_database(path: str) -> bool:
    return PurePosixPath(path).name == SQLITE_FILE


def _describe(path: Path, sha256: str | None) -> CopiedFile:
    found = path.stat()
    return CopiedFile(sha256=sha256 or _sha256(path), bytes=found.st_size, modified_ns=found.st_mtime_ns)


def _has_size_and_time(path: Path, known: CopiedFile) -> bool:
    found = path.stat()
    return (found.st_size, found.st_mtime_ns) == (known.bytes, known.modified_ns)


def _paths(directory: Path) -> list[str]:
    """Return the files of a ChromaDB directory, without the marker and what an open SQLite database adds."""
    found = (path for path in directory.rglob("*") if path.is_file())
    paths = (path.relative_to(directory).as_posix() for path in found)
    return [path for path in paths if path != MARKER and not path.endswith(_OF_OPEN_DATABASES)]


def _written(directory: Path) -> str:
    """Return the digest of the tables that a write changes, in the databases of all partitions.

    It is another one for a damaged database.
    """
    databases = sorted(path for path in _paths(directory) if _is_database(path)) or [SQLITE_FILE]
    try:
        rows = [_rows(directory / path) for path in databases]
    except sqlite3.DatabaseError as error:
        return f"unreadable: {error}"
    stated = rows[0] if databases == [SQLITE_FILE] else list(zip(databases, rows, strict=True))
    return hashlib.sha256(repr(stated).encode()).hexdigest()


def _rows(path: Path) -> list[list[Any]]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        return [database.execute(query).fetchall() for query in _WRITTEN]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
