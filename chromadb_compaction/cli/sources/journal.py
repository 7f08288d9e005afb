"""The journal of a `put`: which deltas it has written. It is kept on this machine, so that a stopped put can continue.

A journal is a file of JSON lines. The protocol:

1. Begin: write the first line. It has the name of delta 0, a UUIDv7 of this moment; delta n is named that plus n.
2. For each delta: append its intent (key, rows, digest of all records so far, SHA-256 of its bytes) and sync the file.
   Write the delta to the bucket. Append its completion, and sync the file.
3. After all deltas: remove the journal.

A put that finds a journal continues it: it skips the records of the completed deltas, and goes on with step 2. A line
that a crash has cut off is ignored. A crash within step 2 can leave an intent without a completion. Then nobody knows
whether that delta was written, so the put reads the bucket:

- The delta is there, pending, merged or in quarantine, with the bytes of its intent: append its completion.
- It is there with other bytes: stop.
- It is not there, and no other delta was written: begin again. The new names are newer, so nothing can be overwritten.
- It is not there, or the bucket cannot be read: write it again under its name, but only with the records of its intent
  (with its very bytes, if the bucket cannot be read). If the source has other records now, stop.

So no name ever gets two contents, and a changed source is never written half.

All names have the time of step 1. So whatever others write after that is newer, however late the put finishes.

Format 1 had no intents. Its journals are continued, unless their next delta may be in the bucket.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Final, Literal, NamedTuple, Self
from uuid import UUID

import uuid_utils
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from chromadb_compaction.deltas.versions import uuid7_seconds
from chromadb_compaction.errors import CompactionError, ConfigurationError, InvalidRequestError
from chromadb_compaction.manifest import check_format, parse_stored

RESTART: Final = "put everything again, as written now, with --restart"
"""The next step when a put cannot be continued."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JournalHeader(_Line):
    """The first line. `first` is the name of delta 0."""

    format: Literal[1, 2] = 2
    put: str
    first: UUID


class WrittenDelta(_Line):
    """The line of a delta in the bucket. `digest` covers all records of the put up to the delta's last one."""

    key: str
    rows: int
    digest: str


class Intent(WrittenDelta):
    """The line of a delta that is about to be written. `sha256` is that of its bytes."""

    sha256: str


_DELTA_LINE: Final[TypeAdapter[WrittenDelta | Intent]] = TypeAdapter(WrittenDelta | Intent)


class _Content(NamedTuple):
    """The content of a journal, and its bytes without a last line that a crash has cut off."""

    header: JournalHeader | None = None
    written: tuple[WrittenDelta, ...] = ()
    intent: Intent | None = None
    whole: int = 0


class Journal:
    """One journal. Its file is locked for this process. Without a file it is in memory only.

    Attributes:
        written: The completed deltas, oldest first.
        intent: The delta that may be in the bucket: it has an intent, and no completion.
    """

    def __init__(
        self,
        header: JournalHeader,
        written: Iterable[WrittenDelta] = (),
        intent: Intent | None = None,
        file: IO[bytes] | None = None,
    ) -> None:
        self._header = header
        self._file = file
        self._intent_is_absent = False
        self.written = list(written)
        self.intent = intent

    @classmethod
    def open(cls, directory: Path, put: Sequence[str], *, restart: bool = False) -> Self:
        """Open the journal of the put that the words `put` identify, or begin one. `restart` always begins.

        Raises InvalidRequestError if the put is running or its journal is damaged, ConfigurationError if the file
        cannot be opened, and NewerFormatError if a newer version wrote it.
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
            return cls._open_locked(file, put, restart=restart)
        except CompactionError:
            file.close()
            raise

    @classmethod
    def _open_locked(cls, file: IO[bytes], put: Sequence[str], *, restart: bool) -> Self:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidRequestError("this put is already running", next_step="wait until it ends") from error
        content = _restarted(file) if restart else _read(file)
        if content.header is not None:
            file.truncate(content.whole)
            return cls(content.header, content.written, content.intent, file)
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
            content = _read(file)
        return cls(content.header or _new_header(" ".join(put)), content.written, content.intent)

    @property
    def has_intents(self) -> bool:
        """True if every delta was announced by an intent. False for format 1."""
        return self._header.format > 1

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
        self.intent = None
        if self._file is not None:
            self._file.truncate(0)
        self._append(self._header)

    def confirm_absent(self) -> None:
        """Note that the delta of the intent is not in the bucket, so that its records may be encoded differently."""
        self._intent_is_absent = True

    def intend(self, intent: Intent) -> bool:
        """Do the first part of step 2. Return False if the journal has another intent, which may be in the bucket."""
        if self.intent is not None:
            same = intent == self.intent.model_copy(update={"sha256": intent.sha256})
            if not same or (intent != self.intent and not self._intent_is_absent):
                return False
        if intent != self.intent:
            self._append(intent)
            self.intent = intent
        return True

    def complete(self) -> None:
        """Do the last part of step 2: the delta of the intent is in the bucket."""
        if self.intent is None:
            raise ValueError("there is no intent to complete")
        line = WrittenDelta(key=self.intent.key, rows=self.intent.rows, digest=self.intent.digest)
        self._append(line)
        self.written.append(line)
        self.intent = None
        self._intent_is_absent = False

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


def _restarted(file: IO[bytes]) -> _Content:
    """Return no content. Raises NewerFormatError instead of dropping the journal of a newer version."""
    file.seek(0)
    check_format(file.readline(), file.name, newest=JournalHeader.model_fields["format"].default)
    return _Content()


def _read(file: IO[bytes]) -> _Content:
    """Read a journal. Raises InvalidRequestError if a whole line is not one that this version writes."""
    file.seek(0)
    content = _Content()
    for line in file:
        if not line.endswith(b"\n"):
            break
        try:
            content = _with_line(content, line, file.name)
        except ValidationError as error:
            raise InvalidRequestError(f"the journal {file.name} is damaged", next_step=RESTART) from error
    return content


def _with_line(content: _Content, line: bytes, name: str) -> _Content:
    content = content._replace(whole=content.whole + len(line))
    if content.header is None:
        return content._replace(header=parse_stored(JournalHeader, line, name))
    delta = _DELTA_LINE.validate_json(line)
    if isinstance(delta, Intent):
        return content._replace(intent=delta)
    return content._replace(written=(*content.written, delta), intent=None)
