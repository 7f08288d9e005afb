"""Downloads of objects in parallel parts, in bounded memory. Each part is hashed and written in order."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from botocore.exceptions import HTTPClientError, IncompleteReadError

from chromadb_compaction.errors import PreconditionFailedError, TransientStorageError

if TYPE_CHECKING:
    from botocore.response import StreamingBody

MEBIBYTE: Final = 1024 * 1024
PART_BYTES: Final = 8 * MEBIBYTE
PARTS_AT_ONCE: Final = 8
"""Parts in memory at once, for all downloads together: 64 MiB."""
CONNECTION_BROKEN: Final = (HTTPClientError, IncompleteReadError)

PartCall = Callable[[], bytes]


class FirstPart(NamedTuple):
    """The response to the first request for an object. `bytes` is the size of the object, `body` is its unread part."""

    etag: str
    bytes: int
    body: StreamingBody


class ObjectParts(NamedTuple):
    """The two requests for one object's bytes.

    `first` requests the first `n` bytes and returns None for an empty object. `read` reads from `start` to `end` with
    retries, and raises PreconditionFailedError if the object's ETag is no longer `etag`.
    """

    first: Callable[[int], FirstPart | None]
    read: Callable[[int, int, str], bytes]


class RangedDownloads:
    """All downloads of one store. They share PARTS_AT_ONCE."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="download-part")
        self._slots = BoundedSemaphore(PARTS_AT_ONCE)

    def download(self, parts: ObjectParts, target: Path) -> str:
        """Write an object to a file and return the SHA-256 of its bytes.

        Raises TransientStorageError if the object was replaced meanwhile: parts of two objects are never mixed.
        """
        digest = hashlib.sha256()
        with target.open("wb") as file:
            for chunk in self._chunks(parts):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def _chunks(self, parts: ObjectParts) -> Iterator[bytes]:
        first = parts.first(PART_BYTES)
        if first is None:
            return
        starts = range(PART_BYTES, first.bytes, PART_BYTES)
        calls = [partial(parts.read, at, min(at + PART_BYTES, first.bytes), first.etag) for at in starts]
        try:
            with _ReadAhead(self._pool, self._slots, calls) as rest:
                yield from _stream_first_part(first, parts)
                yield from rest
        except PreconditionFailedError as error:
            message = f"the object was replaced while it was read ({error})"
            raise TransientStorageError(message, next_step="try again") from error


def _stream_first_part(first: FirstPart, parts: ObjectParts) -> Iterator[bytes]:
    """Yield the first part as it arrives, so that a small object needs no slot. Read its rest again if it breaks."""
    received = 0
    try:
        for chunk in first.body.iter_chunks(MEBIBYTE):
            received += len(chunk)
            yield chunk
    except CONNECTION_BROKEN:
        yield parts.read(received, min(PART_BYTES, first.bytes), first.etag)


class _ReadAhead:
    """The results of calls in order. While one is used, later calls run in the slots that are free.

    A download with a running call never waits for a slot, so downloads cannot deadlock.
    """

    def __init__(self, pool: ThreadPoolExecutor, slots: BoundedSemaphore, calls: Sequence[PartCall]) -> None:
        self._pool = pool
        self._slots = slots
        self._waiting = deque(calls)
        self._running: deque[Future[bytes]] = deque()

    def __enter__(self) -> Self:
        self._fill_free_slots()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for future in self._running:
            future.cancel()
            future.add_done_callback(lambda _: self._slots.release())

    def __iter__(self) -> Iterator[bytes]:
        while self._running or self._waiting:
            if not self._running:
                self._slots.acquire()
                self._submit()
            try:
                yield self._running.popleft().result()
            finally:
                self._slots.release()
            self._fill_free_slots()

    def _fill_free_slots(self) -> None:
        while self._waiting and self._slots.acquire(blocking=False):
            self._submit()

    def _submit(self) -> None:
        self._running.append(self._pool.submit(self._waiting.popleft()))
