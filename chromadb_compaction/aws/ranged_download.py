"""Downloading objects in many parts at once: in bounded memory, hashed as they arrive, written once and in order."""

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
"""Parts on their way, or not yet written, of all downloads together: 64 MiB."""
BROKEN_OFF: Final = (HTTPClientError, IncompleteReadError)

PartCall = Callable[[], bytes]


class FirstPart(NamedTuple):
    """The answer to the first question for an object: its ETag, all its bytes, and its first part still to be read."""

    etag: str
    bytes: int
    body: StreamingBody


class Source(NamedTuple):
    """How to ask for one object: for its first `n` bytes (None: it is empty), and for those from `start` to `end`.

    `read` tries again by itself, and raises PreconditionFailedError if the object's ETag is no longer `etag`.
    """

    first: Callable[[int], FirstPart | None]
    read: Callable[[int, int, str], bytes]


class RangedDownloads:
    """All downloads of one store: they share the parts that may be in memory."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="download-part")
        self._room = BoundedSemaphore(PARTS_AT_ONCE)

    def download(self, source: Source, target: Path) -> str:
        """Write an object to a file and return the SHA-256 of what arrived.

        Raises TransientStorageError if the object was replaced in between: parts of two are never mixed.
        """
        digest = hashlib.sha256()
        with target.open("wb") as file:
            for chunk in self._chunks(source):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def _chunks(self, source: Source) -> Iterator[bytes]:
        first = source.first(PART_BYTES)
        if first is None:
            return
        starts = range(PART_BYTES, first.bytes, PART_BYTES)
        calls = [partial(source.read, at, min(at + PART_BYTES, first.bytes), first.etag) for at in starts]
        try:
            with _Ahead(self._pool, self._room, calls) as rest:
                yield from _streamed(first, source)
                yield from rest
        except PreconditionFailedError as error:
            raise TransientStorageError(f"the object was replaced while it was read ({error}); try again") from error


def _streamed(first: FirstPart, source: Source) -> Iterator[bytes]:
    """Yield the first part as it arrives, so that a small object takes no part's room; mend it if it breaks off."""
    arrived = 0
    try:
        for chunk in first.body.iter_chunks(MEBIBYTE):
            arrived += len(chunk)
            yield chunk
    except BROKEN_OFF:
        yield source.read(arrived, min(PART_BYTES, first.bytes), first.etag)


class _Ahead:
    """The answers of calls, in order, while as many later calls as there is room for run already.

    Whoever has a call under way never waits for room, so downloads cannot keep each other waiting for ever.
    """

    def __init__(self, pool: ThreadPoolExecutor, room: BoundedSemaphore, calls: Sequence[PartCall]) -> None:
        self._pool = pool
        self._room = room
        self._waiting = deque(calls)
        self._begun: deque[Future[bytes]] = deque()

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for future in self._begun:
            future.cancel()
            future.add_done_callback(lambda _: self._room.release())

    def __iter__(self) -> Iterator[bytes]:
        while self._begun or self._waiting:
            if not self._begun:
                self._room.acquire()
                self._submit()
            try:
                yield self._begun.popleft().result()
            finally:
                self._room.release()
            self._begin()

    def _begin(self) -> None:
        while self._waiting and self._room.acquire(blocking=False):
            self._submit()

    def _submit(self) -> None:
        self._begun.append(self._pool.submit(self._waiting.popleft()))
