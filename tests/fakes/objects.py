"""A bucket in memory that passes the same contract as the S3 adapter."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from chromadb_compaction.errors import (
    ConfigurationError,
    ObjectMissingError,
    PreconditionFailedError,
    UnreadableObjectError,
)
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Clock, StoredObject

LONGEST_KEY = 1024
READS = frozenset({"get", "get_if_changed", "get_range", "head", "list", "copy", "download"})

Hook = Callable[[str, str], None]
"""Called with the method's name and the key. The method raises whatever the hook raises."""


def _nothing(_call: str, _key: str) -> None:
    pass


class InMemoryObjectStore:
    """Objects in a dict. `calls` lists (method, key). The hooks `before` and `after` inject errors.

    An error raised by `after` simulates a lost response: the write has happened, but its caller does not know.
    The caller's role may read and list only below `readable`. By default that is everything.
    `ahead` is what `seconds_ahead` returns.
    Keys in `unreadable` can be listed, described and deleted, and neither read nor copied, as archived objects in S3.

    Args:
        clock: The time of every write, in Unix seconds.
    """

    def __init__(self, clock: Clock = time.time) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.unreadable: set[str] = set()
        self.readable: tuple[str, ...] = ("",)
        self.ahead: float | None = 0.0
        self.calls: list[tuple[str, str]] = []
        self.before: Hook = _nothing
        self.after: Hook = _nothing
        self._clock = clock
        self._lock = threading.RLock()

    def get(self, key: str) -> StoredObject:
        """Return the object. Raises ObjectMissingError."""
        self._begin("get", key)
        return self._find(key)

    def get_if_changed(self, key: str, etag: str) -> StoredObject | None:
        """Return the object, or None if its ETag is still `etag`. Raises ObjectMissingError."""
        self._begin("get_if_changed", key)
        found = self._find(key)
        return None if found.etag == etag else found

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> bytes:
        """Return a part of the object. Raises ObjectMissingError, PreconditionFailedError."""
        self._begin("get_range", key)
        found = self._find(key)
        if etag not in (None, found.etag):
            raise PreconditionFailedError(f"{key} is not what was last read")
        return found.body[start:end]

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description, or None if there is none."""
        self._begin("head", key)
        found = self.objects.get(key)
        return None if found is None else _info(key, found)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects under `prefix` in key order, only those with a greater key than `start_after`."""
        self._begin("list", prefix)
        with self._lock:
            found = [_info(key, stored) for key, stored in self.objects.items() if key.startswith(prefix)]
        after = (info for info in found if info.key.encode() > start_after.encode())
        yield from sorted(after, key=lambda info: info.key.encode())

    def put(self, key: str, body: bytes) -> str:
        """Write unconditionally and return the ETag."""
        self._begin("put", key)
        return self._write("put", key, body)

    def seconds_ahead(self) -> float | None:
        """Return `ahead`."""
        return self.ahead

    def put_if(self, key: str, body: bytes, *, etag: str | None) -> str:
        """Write only if the object's ETag is `etag` (None: only if there is none). Raises PreconditionFailedError."""
        self._begin("put_if", key)
        with self._lock:
            present = self.objects.get(key)
            if (present.etag if present else None) != etag:
                raise PreconditionFailedError(f"{key} is not what was last read")
            return self._write("put_if", key, body)

    def copy(self, source: str, target: str, *, etag: str) -> None:
        """Copy if the source still has `etag`. Raises ObjectMissingError, PreconditionFailedError."""
        self._begin("copy", source)
        with self._lock:
            found = self._find(source)
            if found.etag != etag:
                raise PreconditionFailedError(f"{source} is not what was last read")
            self._write("copy", target, found.body)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A missing key is not an error."""
        for key in keys:
            self._begin("delete", key)
            self.objects.pop(key, None)
            self.after("delete", key)

    def delete_if(self, etags: Mapping[str, str]) -> frozenset[str]:
        """Delete each key that still has its ETag. Return the keys that were rewritten, which stay."""
        rewritten: set[str] = set()
        for key, etag in etags.items():
            self._begin("delete_if", key)
            with self._lock:
                if key in self.objects and self.objects[key].etag != etag:
                    rewritten.add(key)
                else:
                    self.objects.pop(key, None)
            self.after("delete_if", key)
        return frozenset(rewritten)

    def download(self, key: str, target: Path) -> str:
        """Write an object to a file and return its SHA-256. Raises ObjectMissingError."""
        self._begin("download", key)
        body = self._find(key).body
        target.write_bytes(body)
        return hashlib.sha256(body).hexdigest()

    def upload(self, source: Path, key: str) -> None:
        """Write a file's content to an object."""
        self._begin("upload", key)
        self._write("upload", key, source.read_bytes())

    def keys(self, prefix: str = "") -> set[str]:
        """Return the keys under `prefix`. Not listed in `calls`."""
        return {key for key in self.objects if key.startswith(prefix)}

    def run_before_next(self, call: str, action: Callable[[str], object]) -> None:
        """Run `action` with the key once, just before the next `call`. It replaces the hook `before`."""

        def run_once(name: str, key: str) -> None:
            if name == call:
                self.before = _nothing
                action(key)

        self.before = run_once

    def _begin(self, call: str, key: str) -> None:
        self.calls.append((call, key))
        self.before(call, key)
        if call in READS and not key.startswith(self.readable):
            raise ConfigurationError(f"{key}: access is denied", next_step="give the caller's role this permission")

    def _find(self, key: str) -> StoredObject:
        if key in self.unreadable and key in self.objects:
            raise UnreadableObjectError(f"{key} is archived", next_step="restore it", key=key)
        try:
            return self.objects[key]
        except KeyError as error:
            raise ObjectMissingError(f"there is no object {key}") from error

    def _write(self, call: str, key: str, body: bytes) -> str:
        if len(key.encode()) > LONGEST_KEY:
            raise ValueError(f"S3 refuses keys of more than {LONGEST_KEY} bytes, such as {key!r}")
        # S3 uses this ETag for an object written in one part.
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        with self._lock:
            self.objects[key] = StoredObject(bytes(body), etag, self._clock())
        self.after(call, key)
        return etag


def _info(key: str, stored: StoredObject) -> ObjectInfo:
    return ObjectInfo(key=key, bytes=len(stored.body), etag=stored.etag, modified=stored.modified)
