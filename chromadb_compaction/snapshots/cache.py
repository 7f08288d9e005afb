"""Verified local copies of snapshots' collections. A cache: to lose an entry costs a download and nothing else.

```
{root}/snapshots/{snapshot_id}/{collection}/complete.json    which files, with their SHA-256: the completion marker
{root}/snapshots/{snapshot_id}/{collection}/files/           the ChromaDB directory and its ledger
{root}/scratch/{name}/, {root}/scratch/{name}.lock           work in progress, locked by the process that owns it
```
Several processes may share the root. Everything is made in a scratch directory of its own and moved into place
by one rename, and leaves its place by one rename: no process ever sees half an entry, or shares one that is written to.
"""

from __future__ import annotations

import errno
import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from chromadb_compaction.manifest import StoredFile

Files = dict[str, StoredFile]
MARKER: Final = "complete.json"
FILES: Final = "files"
_MARKER_CONTENT: Final = TypeAdapter(Files)
# A full directory stands there; or another process has just evicted the snapshot's own.
_NOT_NOW: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT})


class SnapshotCache:
    """The cache under `root`, which is made when first needed."""

    def __init__(self, root: Path) -> None:
        self._snapshots = root / "snapshots"
        self._scratch = root / "scratch"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give an empty directory on the cache's disk, removed at the end. Those of dead processes go first."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        with ExitStack() as stack:
            directory = self._locked(stack)
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            yield directory

    def holds(self, snapshot_id: str, collection: str, files: Files) -> bool:
        """Say whether a complete copy of exactly `files` is here, each of its size."""
        entry = self._entry(snapshot_id, collection)
        try:
            if _MARKER_CONTENT.validate_json((entry / MARKER).read_bytes()) != files:
                return False
            return all((entry / FILES / path).stat().st_size == file.bytes for path, file in files.items())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return False

    def take(self, snapshot_id: str, collection: str, files: Files, into: Path) -> Path | None:
        """Move the copy out of the cache into the directory `into` and return its files' directory; None: a miss."""
        if not self.holds(snapshot_id, collection, files):
            return None
        taken = into / collection
        try:
            self._entry(snapshot_id, collection).rename(taken)
        except FileNotFoundError:
            return None  # another process was quicker
        (taken / MARKER).unlink()
        return taken / FILES

    def keep(self, snapshot_id: str, collection: str, files: Files, directory: Path) -> None:
        """Move `directory`, which must be a scratch one's `.../files`, into the cache as a complete copy of `files`.

        If another process has put one there meanwhile, that one stays; if one evicts it, it is not kept.
        """
        if directory.name != FILES:
            raise ValueError(f"{directory} is not called {FILES!r}")
        (directory.parent / MARKER).write_bytes(_MARKER_CONTENT.dump_json(files))
        entry = self._entry(snapshot_id, collection)
        if not _placed(directory.parent, entry) and not self.holds(snapshot_id, collection, files):
            self._remove([entry])  # damaged, or it would be held
            _placed(directory.parent, entry)

    def move(self, collection: str, files: Files, *, old: str, new: str) -> None:
        """Make the copy under snapshot `old` the one under `new`, which has the same files; a miss is no error."""
        with self.scratch() as scratch:
            directory = self.take(old, collection, files, scratch)
            if directory is not None:
                self.keep(new, collection, files, directory)

    def evict(self, *, keep: str | None) -> None:
        """Remove every snapshot but `keep`: the disk holds one."""
        with suppress(FileNotFoundError):
            doomed = [snapshot for snapshot in self._snapshots.iterdir() if snapshot.name != keep]
            self._remove([entry for snapshot in doomed for entry in snapshot.iterdir()])
            for snapshot in doomed:
                with suppress(OSError):
                    snapshot.rmdir()  # unless another process has just put something there

    def _remove(self, doomed: list[Path]) -> None:
        # Each entry is renamed by itself, never the directory above: of two processes that want the same entry one
        # gets it, whereas one that is about to take it from a directory on its way out could get half.
        if doomed:
            with self.scratch() as scratch:
                for number, entry in enumerate(doomed):
                    with suppress(FileNotFoundError):
                        entry.rename(scratch / str(number))

    def _entry(self, snapshot_id: str, collection: str) -> Path:
        return self._snapshots / snapshot_id / collection

    def _locked(self, stack: ExitStack) -> Path:
        """Return a fresh directory whose lock this process holds until `stack` unwinds. A dead process holds none."""
        while True:
            directory = self._scratch / secrets.token_hex(8)
            lock = directory.with_suffix(".lock")
            handle = stack.enter_context(lock.open("w"))
            stack.callback(lock.unlink, missing_ok=True)
            if _lock(handle.fileno()) and lock.exists():
                directory.mkdir()
                return directory

    def _remove_abandoned(self) -> None:
        for lock in self._scratch.glob("*.lock"):
            with suppress(FileNotFoundError), lock.open("r+") as handle:
                if _lock(handle.fileno()):
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)


def _placed(source: Path, target: Path) -> bool:
    """Rename a directory, or return False if what other processes do to the target stands in its way."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        if error.errno not in _NOT_NOW:
            raise
        return False
    return True


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def files_below(directory: Path) -> dict[str, Path]:
    """Return every file below `directory` by its path relative to it, with forward slashes, in order."""
    found = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.relative_to(directory).as_posix(): path for path in found}
