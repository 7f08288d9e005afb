"""The directory that holds everything a local stack writes, so that removing it removes the stack."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chromadb_compaction.local.errors import LocalStackError

IGNORE_ALL = "*\n"
"""The text of a stack's .gitignore, which also shows that the directory is a stack's."""


class ServerRecord(BaseModel):
    """The server's process and port. Its process group also holds the Lambda workers.

    `secret` is the admin's secret access key. It is different for each server, so that no web page can sign a request.
    `lambda_port` is the port at which a Step Functions engine beside the stack calls functions, None if there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    port: int
    secret: str = Field(repr=False)
    lambda_port: int | None = None

    @property
    def endpoint(self) -> str:
        """The URL of every emulated service."""
        return f"http://127.0.0.1:{self.port}"


class StackHome:
    """The files of one local stack.

    The server holds a lock on the file `lock` as long as it lives, and the kernel drops the lock when the server ends.
    So a record left over from a crash or a reboot is never mistaken for a running server.

    Args:
        path: The directory. It is created when the server starts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.lock = self.path / "lock"
        self.ignore_file = self.path / ".gitignore"
        self.record_file = self.path / "server.json"
        self.server_log = self.path / "logs" / "ministack.log"
        self.function_logs = self.path / "logs" / "functions"
        self.workers = self.path / "workers"
        self.temporary = self.path / "tmp"
        self.state = self.path / "state"
        self.objects = self.path / "s3"
        self.exports = self.path / "stacks"
        self.caches = self.path / "cache"

    def create(self) -> None:
        """Make the directories, which an enclosing git repository ignores. Raises LocalStackError as `claim` does."""
        self.claim()
        for folder in (self.function_logs, self.workers, self.temporary, self.state, self.objects, self.exports):
            folder.mkdir(parents=True, exist_ok=True)

    def claim(self) -> None:
        """Make the directory a stack's own. Raises LocalStackError if it holds anything that is not a stack's."""
        if self.is_own():
            return
        if self.path.exists() and any(entry.name != self.lock.name for entry in self.path.iterdir()):
            raise LocalStackError(
                f"{self.path} is not empty, and it is not the directory of a local stack",
                next_step="name a new or an empty directory with --dir",
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock.touch()
        self.ignore_file.write_text(IGNORE_ALL, encoding="utf-8")

    def is_own(self) -> bool:
        """Return whether a stack was started in this directory before."""
        try:
            return self.lock.exists() and self.ignore_file.read_text(encoding="utf-8") == IGNORE_ALL
        except (OSError, UnicodeDecodeError):
            return False

    def has_objects(self) -> bool:
        """Return whether the buckets of an earlier server are here."""
        return self.is_own() and self.objects.is_dir() and any(self.objects.iterdir())

    def discard_server_files(self, *, keep_objects: bool) -> None:
        """Remove everything but the logs, which explain afterwards what happened, and the objects if they are kept."""
        self.record_file.unlink(missing_ok=True)
        folders = (self.workers, self.temporary, self.state, self.exports, self.caches)
        for folder in folders if keep_objects else (*folders, self.objects):
            shutil.rmtree(folder, ignore_errors=True)

    def is_served(self) -> bool:
        """Return whether a server is alive in this directory."""
        if not self.lock.exists():
            return False
        with self.locked() as lock:
            return lock is None

    @contextmanager
    def locked(self) -> Iterator[IO[str] | None]:
        """Yield the locked file, which the server inherits, or None if a server already holds the lock."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file

    def record(self) -> ServerRecord | None:
        """Return the running server, or None."""
        if not self.is_served():
            return None
        try:
            return ServerRecord.model_validate_json(self.record_file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write_record(self, record: ServerRecord) -> None:
        """Replace the server's record atomically."""
        fresh = self.record_file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        # Only this user may read the secret.
        fresh.touch(mode=0o600, exist_ok=False)
        fresh.write_text(record.model_dump_json(), encoding="utf-8")
        fresh.replace(self.record_file)

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        try:
            text = self.server_log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])
