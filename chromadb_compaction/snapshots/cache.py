"""A cache of verified local copies of snapshots' directories. A lost entry costs a download, nothing else.

```
{root}/snapshots/{snapshot_id}/{entry}/complete.json    the files with their SHA-256: the completion marker
{root}/snapshots/{snapshot_id}/{entry}/files/           the ChromaDB directory and its ledger
{root}/scratch/{name}/, {root}/scratch/{name}.lock      work in progress, locked by the process that owns it
```
An entry has the name of its collection, or another for each partition after the first (DirectoryName).
Several processes of one user may share the root, which nobody else may write to. Every entry is made in its own scratch
directory, moved into the cache by one rename, and moved out by one rename. So no process sees half an entry, or an
entry that another process changes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from chromadb_compaction.disk import make_private
from chromadb_compaction.manifest import StoredFile

Files = dict[str, StoredFile]
MARKER: Final = "complete.json"
FILES: Final = "files"
_MARKER_CONTENT: Final = TypeAdapter(Files)
# There is a full directory already, or another process has just evicted the snapshot's directory.
_TARGET_CHANGED: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT})


class DirectoryName(NamedTuple):
    """The name of a directory of a snapshot: of its collection, and the id at which its ids begin."""

    collection: str
    first: str = ""

    @property
    def entry(self) -> str:
        """The name of its entry in the cache. No collection is named as a partition's entry."""
        return partition_entries(self.collection) + _digest(self.first) if self.first else self.collection


def partition_entries(collection: str) -> str:
    """Return the beginning of the names of the entries of a collection's partitions, but for the first one."""
    return f"_{_digest(collection)}-"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class SnapshotCache:
    """The cache under one directory.

    Args:
        root: The directory, which is created when it is first needed. Every method that writes raises
            ConfigurationError if it belongs to another user.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._snapshots = root / "snapshots"
        self._scratch = root / "scratch"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield an empty directory, removed at the end. Those of dead processes are removed first."""
        make_private(self._root, self._scratch)
        self._remove_abandoned()
        with ExitStack() as stack:
            directory = self._create_locked(stack)
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            yield directory

    def holds(self, snapshot_id: str, entry: str, files: Files) -> bool:
        """Return whether the cache has a complete copy of exactly `files`, each with its size."""
        make_private(self._root)
        found = self._path(snapshot_id, entry)
        try:
            if _MARKER_CONTENT.validate_json((found / MARKER).read_bytes()) != files:
                return False
            return all((found / FILES / path).stat().st_size == file.bytes for path, file in files.items())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return False

    def take(self, snapshot_id: str, entry: str, files: Files, into: Path) -> Path | None:
        """Move the copy out of the cache into `into` and return the directory of its files, None for a miss."""
        if not self.holds(snapshot_id, entry, files):
            return None
        taken = into / entry
        try:
            self._path(snapshot_id, entry).rename(taken)
        except FileNotFoundError:
            return None  # another process has taken it
        (taken / MARKER).unlink()
        return taken / FILES

    def keep(self, snapshot_id: str, entry: str, files: Files, directory: Path) -> None:
        """Move `directory`, which is `.../files` in a scratch directory, into the cache as a complete copy of `files`.

        If another process has added the same copy since, that one stays. If one has evicted the snapshot, none is kept.
        """
        if directory.name != FILES:
            raise ValueError(f"the name of {directory} is not {FILES!r}")
        (directory.parent / MARKER).write_bytes(_MARKER_CONTENT.dump_json(files))
        kept = self._path(snapshot_id, entry)
        if not _rename(directory.parent, kept) and not self.holds(snapshot_id, entry, files):
            self._remove([kept])  # it is damaged
            _rename(directory.parent, kept)

    def move(self, unchanged: Callable[[str], bool], *, old: str, new: str) -> None:
        """Move the copies in snapshot `old` whose names are `unchanged` to snapshot `new`.

        `take` compares each with the files that it must have, so nothing is read here.
        """
        with suppress(FileNotFoundError):
            for entry in list((self._snapshots / old).iterdir()):
                if unchanged(entry.name):
                    _rename(entry, self._path(new, entry.name))

    def evict(self, *, keep: str | None) -> None:
        """Remove every snapshot except `keep`, so that the disk holds only one."""
        with suppress(FileNotFoundError):
            evicted = [snapshot for snapshot in self._snapshots.iterdir() if snapshot.name != keep]
            self._remove([entry for snapshot in evicted for entry in snapshot.iterdir()])
            for snapshot in evicted:
                with suppress(OSError):
                    snapshot.rmdir()  # it fails if another process has just added an entry

    def _remove(self, entries: list[Path]) -> None:
        # Each entry is renamed by itself, never the directory above it, so that a process that takes an entry at the
        # same time gets all of it or none.
        if entries:
            with self.scratch() as scratch:
                for number, entry in enumerate(entries):
                    with suppress(FileNotFoundError):
                        entry.rename(scratch / str(number))

    def _path(self, snapshot_id: str, entry: str) -> Path:
        return self._snapshots / snapshot_id / entry

    def _create_locked(self, stack: ExitStack) -> Path:
        """Create a directory whose lock this process holds until `stack` unwinds. A dead process holds no lock."""
        while True:
            directory = self._scratch / secrets.token_hex(8)
            lock = directory.with_suffix(".lock")
            handle = stack.enter_context(lock.open("w"))
            stack.callback(lock.unlink, missing_ok=True)
            if _lock(handle.fileno()) and lock.exists():
                directory.mkdir(mode=0o700)
                return directory

    def _remove_abandoned(self) -> None:
        for lock in self._scratch.glob("*.lock"):
            with suppress(FileNotFoundError), lock.open("r+") as handle:
                if _lock(handle.fileno()):
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)


def _rename(source: Path, target: Path) -> bool:
    """Rename a directory, or return False if other processes have filled or removed the target."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        if error.errno not in _TARGET_CHANGED:
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
    """Return every file below `directory`, sorted, by its relative path with forward slashes."""
    found = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.relative_to(directory).as_posix(): path for path in found}
