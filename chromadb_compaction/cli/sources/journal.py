"""What a `put` has written so far, kept on this machine, so that one that was stopped goes on where it stopped.

A journal is a file of JSON lines: first the name of the first delta, from which those of all others follow, then
one line for each delta that is safe in the bucket. Since a delta's rows and its name both follow from its number, the
one whose line a crash has cut off is written again as the same object. All names carry the time at which the put
began: whatever others have written since is newer, however late the put is finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Literal, Self
from uuid import UUID

import numpy as np
import uuid_utils
from pydantic import BaseModel, ConfigDict, ValidationError

from chromadb_compaction.cli.sources.files import Rows
from chromadb_compaction.deltas.versions import uuid7_seconds
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Begun(_Line):
    """The first line."""

    format: Literal[1] = 1
    put: str
    first: UUID


class Written(_Line):
    """A delta that is safe. `digest` is that of all the put's records up to the delta's last."""

    key: str
    rows: int
    digest: str


class Journal:
    """One journal, held by this process alone. Without a file it is kept in memory."""

    def __init__(self, begun: Begun, written: Iterable[Written] = (), file: IO[bytes] | None = None) -> None:
        self._begun = begun
        self._file = file
        self.written = list(written)

    @classmethod
    def open(cls, directory: Path, put: Sequence[str], *, restart: bool = False) -> Self:
        """Take up the journal of the put that the words `put` stand for, or begin one.

        `restart` begins it anew in any case. Raises InvalidRequestError when it is in use, and
        ConfigurationError when it cannot be kept.
        """
        path = _path(directory, put)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
        except OSError as error:
            raise ConfigurationError(
                f"{path}, where to note what is written, cannot be opened: {error.strerror}; set XDG_STATE_HOME"
                " to a directory that can"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise InvalidRequestError("this put is under way already; wait for it to end") from error
        begun, written, whole = _read(file)
        if begun is not None and not restart:
            file.truncate(whole)
            return cls(begun, written, file)
        journal = cls(_begun(put), file=file)
        journal.begin()
        return journal

    @classmethod
    def peek(cls, directory: Path, put: Sequence[str], *, restart: bool = False) -> Self:
        """Return what `open` would, in memory: what is noted in it goes no further."""
        path = _path(directory, put)
        if restart or not path.exists():
            return cls(_begun(put))
        with path.open("rb") as file:
            begun, written, _ = _read(file)
        return cls(begun or _begun(put), written)

    @property
    def began(self) -> float:
        """When the put began, in Unix seconds."""
        return uuid7_seconds(self._begun.first)

    @property
    def rows(self) -> int:
        """How many of the source's first records are safe."""
        return sum(line.rows for line in self.written)

    @property
    def digest(self) -> str | None:
        """The digest of these records, if there are any."""
        return self.written[-1].digest if self.written else None

    def name(self, number: int) -> UUID:
        """Return the name of delta `number`; a later one's is later."""
        return UUID(int=self._begun.first.int + number)

    def begin(self) -> None:
        """Make this the moment at which the put begins, with nothing written."""
        self._begun = self._begun.model_copy(update={"first": _fresh_name()})
        self.written.clear()
        if self._file is not None:
            self._file.truncate(0)
        self._note(self._begun)

    def append(self, line: Written) -> None:
        """Note that a delta is safe."""
        self._note(line)
        self.written.append(line)

    def close(self) -> None:
        """Leave it for the next run."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """End it: everything is written."""
        if self._file is not None:
            Path(self._file.name).unlink(missing_ok=True)
        self.close()

    def _note(self, line: _Line) -> None:
        if self._file is not None:
            self._file.write(line.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())


def journal_directory() -> Path:
    """Return where journals stand: the user's state directory."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "chromadb-compaction" / "put"


def _path(directory: Path, put: Sequence[str]) -> Path:
    return directory / f"{hashlib.sha256(repr(tuple(put)).encode()).hexdigest()[:32]}.jsonl"


def _begun(put: Sequence[str]) -> Begun:
    return Begun(put=" ".join(put), first=_fresh_name())


def _fresh_name() -> UUID:
    return UUID(int=uuid_utils.uuid7().int)


def _read(file: IO[bytes]) -> tuple[Begun | None, list[Written], int]:
    """Return what stands in a journal, and how many bytes that is: the last line may be cut off by a crash."""
    file.seek(0)
    begun, written, whole = None, [], 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        try:
            if begun is None:
                begun = Begun.model_validate_json(line)
            else:
                written.append(Written.model_validate_json(line))
        except ValidationError:
            break
        whole += len(line)
    return begun, written, whole


class RowDigests:
    """Goes through a source's records in order. How they are cut into pieces makes no difference."""

    def __init__(self) -> None:
        self._last = b""

    def after(self, rows: Rows) -> list[str]:
        """Return the digest after each of the next records."""
        digests = []
        for row in zip(rows.ids, rows.deleted, rows.embeddings, rows.documents, rows.metadatas, strict=True):
            self._last = hashlib.blake2b(self._last + _bytes(*row), digest_size=16).digest()
            digests.append(self._last.hex())
        return digests


def _bytes(
    row_id: str,
    deleted: bool,  # noqa: FBT001 - columns of a row, in their order
    embedding: Any,  # noqa: ANN401 - a row of a matrix, a list, or nothing
    document: str | None,
    metadata: dict[str, Any] | None,
) -> bytes:
    # Sorted: ChromaDB gives a record's metadata in another order each time.
    text = json.dumps([row_id, deleted, document, metadata], sort_keys=True, default=repr).encode()
    vector = embedding.tobytes() if isinstance(embedding, np.ndarray) else repr(embedding).encode()
    return b"%d %b%b" % (len(text), text, vector)
