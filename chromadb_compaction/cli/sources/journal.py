"""The journal of a `put`: which deltas it has written. It is kept on this machine, so that a stopped put can continue.

A journal is a file of JSON lines. The protocol:

1. Begin: write the first line. It has the name of delta 0, a UUIDv7 of this moment; delta n is named that plus n.
2. For each delta: write it to the bucket, then append its line and sync the file.
3. After all deltas: remove the journal.

A put that finds a journal continues it: it skips the records of the deltas that have a line, and goes on with step 2.
A crash within step 2 leaves a delta without a line, or with half a line, which is ignored. That delta is written again.
Its name and its rows depend only on its number, so it is the same object.

All names have the time of step 1. So whatever others write after that is newer, however late the put finishes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Literal, Self
from uuid import UUID

import numpy as np
import uuid_utils
from pydantic import BaseModel, ConfigDict, ValidationError

from chromadb_compaction.cli.sources.records import Records
from chromadb_compaction.deltas.versions import uuid7_seconds
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError, NewerFormatError
from chromadb_compaction.manifest import parse_stored


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JournalHeader(_Line):
    """The first line. `first` is the name of delta 0."""

    format: Literal[1] = 1
    put: str
    first: UUID


class WrittenDelta(_Line):
    """The line of a delta in the bucket. `digest` covers all records of the put up to the delta's last one."""

    key: str
    rows: int
    digest: str


class Journal:
    """One journal. Its file is locked for this process. Without a file it is in memory only."""

    def __init__(
        self, header: JournalHeader, written: Iterable[WrittenDelta] = (), file: IO[bytes] | None = None
    ) -> None:
        self._header = header
        self._file = file
        self.written = list(written)

    @classmethod
    def open(cls, directory: Path, put: Sequence[str], *, restart: bool = False) -> Self:
        """Open the journal of the put that the words `put` identify, or begin one. `restart` always begins.

        Raises InvalidRequestError if the put is running, ConfigurationError if the file cannot be opened, and
        NewerFormatError if a newer version wrote it.
        """
        path = _path(directory, put)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
        except OSError as error:
            raise ConfigurationError(
                f"the journal {path} cannot be opened: {error.strerror}",
                next_step="set XDG_STATE_HOME to a writable directory",
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise InvalidRequestError("this put is already running", next_step="wait until it ends") from error
        try:
            header, written, whole = _read(file)
        except NewerFormatError:
            file.close()
            raise
        if header is not None and not restart:
            file.truncate(whole)
            return cls(header, written, file)
        journal = cls(_new_header(" ".join(put)), file=file)
        journal.begin()
        return journal

    @classmethod
    def peek(cls, directory: Path, put: Sequence[str], *, restart: bool = False) -> Self:
        """Return the journal that `open` would return, in memory only."""
        path = _path(directory, put)
        if restart or not path.exists():
            return cls(_new_header(" ".join(put)))
        with path.open("rb") as file:
            header, written, _ = _read(file)
        return cls(header or _new_header(" ".join(put)), written)

    @property
    def started_at(self) -> float:
        """The time of step 1, in Unix seconds."""
        return uuid7_seconds(self._header.first)

    @property
    def rows(self) -> int:
        """The number of records that are in the bucket: the first ones of the source."""
        return sum(line.rows for line in self.written)

    @property
    def digest(self) -> str | None:
        """The digest of these records. None if there are none."""
        return self.written[-1].digest if self.written else None

    def name(self, number: int) -> UUID:
        """Return the name of delta `number`."""
        return UUID(int=self._header.first.int + number)

    def begin(self) -> None:
        """Do step 1, now: drop all lines and write a new first one."""
        self._header = _new_header(self._header.put)
        self.written.clear()
        if self._file is not None:
            self._file.truncate(0)
        self._append(self._header)

    def record(self, line: WrittenDelta) -> None:
        """Do the second half of step 2, for a delta that is in the bucket."""
        self._append(line)
        self.written.append(line)

    def close(self) -> None:
        """Close and unlock the file. The next put continues."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Do step 3."""
        if self._file is not None:
            Path(self._file.name).unlink(missing_ok=True)
        self.close()

    def _append(self, line: _Line) -> None:
        if self._file is not None:
            self._file.write(line.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())


def journal_directory() -> Path:
    """Return the directory of all journals, in the user's state directory."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "chromadb-compaction" / "put"


def _path(directory: Path, put: Sequence[str]) -> Path:
    return directory / f"{hashlib.sha256(repr(tuple(put)).encode()).hexdigest()[:32]}.jsonl"


def _new_header(put: str) -> JournalHeader:
    return JournalHeader(put=put, first=UUID(int=uuid_utils.uuid7().int))


def _read(file: IO[bytes]) -> tuple[JournalHeader | None, list[WrittenDelta], int]:
    """Return the lines of a journal, and their bytes without a last line that a crash has cut off."""
    file.seek(0)
    header, written, whole = None, [], 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        try:
            if header is None:
                header = parse_stored(JournalHeader, line, file.name)
            else:
                written.append(WrittenDelta.model_validate_json(line))
        except ValidationError:
            break
        whole += len(line)
    return header, written, whole


class RowDigests:
    """The running digest of a source's records, in their order. It does not depend on how they are grouped."""

    def __init__(self) -> None:
        self._last = b""

    def after(self, records: Records) -> list[str]:
        """Return the digest after each of the next records."""
        digests = []
        for row_id, deleted, embedding, document, metadata, uri in zip(*records[:-1], strict=True):
            # Sorted, because ChromaDB returns the metadata of a record in a different order each time.
            # Without a URI, the digest is what it was before there were URIs.
            texts = [row_id, deleted, document, metadata, *([] if uri is None else [uri])]
            text = json.dumps(texts, sort_keys=True, default=repr).encode()
            vector = embedding.tobytes() if isinstance(embedding, np.ndarray) else repr(embedding).encode()
            content = b"%d %b%b" % (len(text), text, vector)
            self._last = hashlib.blake2b(self._last + content, digest_size=16).digest()
            digests.append(self._last.hex())
        return digests
