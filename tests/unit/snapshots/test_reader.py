"""Queries that wait for a download, and queries that do not, with an object store whose calls can be blocked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from chromadb_compaction.errors import SnapshotConflictError, SnapshotCorruptError, TransientStorageError
from chromadb_compaction.layout import pointer_key
from chromadb_compaction.snapshots.reader import SnapshotReader
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes
from tests.passes import compact

SECONDS = 20
"""Longer than any call here takes."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class BlockedCall:
    """A call that is blocked. `reached` is set when it blocks, and it continues when `over` is set."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.over = threading.Event()


@contextmanager
def blocked(fakes: Fakes, call: str) -> Iterator[BlockedCall]:
    """Block every `call` to the store until the block ends, or `over` is set."""
    blocked_call = BlockedCall()

    def hold(called: str, _key: str) -> None:
        if called == call:
            blocked_call.reached.set()
            assert blocked_call.over.wait(SECONDS)

    fakes.objects.before = hold
    try:
        yield blocked_call
    finally:
        blocked_call.over.set()
        fakes.objects.before = lambda _call, _key: None


def failing(fakes: Fakes, call: str) -> None:
    def fail(called: str, key: str) -> None:
        if called == call:
            raise TransientStorageError(f"{key}: S3 is busy")

    fakes.objects.before = fail


def read(fakes: Fakes, reader: SnapshotReader, name: str = "docs") -> tuple[str, list[str]]:
    """Return the snapshot and the collection's ids."""
    with reader.reading(fakes.services, name) as readable:
        assert readable.collection is not None
        return readable.snapshot_id, readable.collection.get(include=[])["ids"]


def publish(fakes: Fakes, id_: str, *, at: float = 0, collection: str = "docs") -> str:
    published = compact(fakes, a_delta({id_: [1, 0]}, collection=collection, at=NOW + at)).snapshot_id
    assert published is not None
    return published


def test_while_one_collection_is_downloaded_others_are_read_without_waiting(
    fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor
) -> None:
    publish(fakes, "a")
    snapshot = publish(fakes, "x", collection="others")
    read(fakes, reader)

    with blocked(fakes, "get_range") as blocked_call:
        waiting = pool.submit(read, fakes, reader, "others")
        assert blocked_call.reached.wait(SECONDS)
        assert read(fakes, reader) == (snapshot, ["a"])
        assert not waiting.done()
        blocked_call.over.set()
        assert waiting.result(SECONDS) == (snapshot, ["x"])


def test_while_a_new_snapshot_is_downloaded_queries_use_the_previous_one(
    fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor
) -> None:
    old = publish(fakes, "a")
    read(fakes, reader)
    new = publish(fakes, "b", at=1)

    with blocked(fakes, "get_range") as blocked_call:
        first = pool.submit(read, fakes, reader)
        assert blocked_call.reached.wait(SECONDS)
        assert [read(fakes, reader) for _ in range(3)] == [(old, ["a"])] * 3
        assert not first.done()
        blocked_call.over.set()
        assert first.result(SECONDS) == (new, ["a", "b"])
    assert read(fakes, reader) == (new, ["a", "b"])


def test_a_slow_manifest_does_not_hold_the_lock(fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor) -> None:
    publish(fakes, "a")
    read(fakes, reader)
    new = publish(fakes, "b", at=1)

    with blocked(fakes, "get") as blocked_call:
        first = pool.submit(read, fakes, reader)
        assert blocked_call.reached.wait(SECONDS)
        with reader._state:  # the lock is free meanwhile
            assert not first.done()
        blocked_call.over.set()
        assert first.result(SECONDS) == (new, ["a", "b"])


def test_a_collection_is_downloaded_once_for_all_queries_that_wait_for_it(
    fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor
) -> None:
    snapshot = publish(fakes, "a")

    with blocked(fakes, "get_range") as blocked_call:
        waiting = [pool.submit(read, fakes, reader) for _ in range(4)]
        assert blocked_call.reached.wait(SECONDS)
        blocked_call.over.set()
        assert [future.result(SECONDS) for future in waiting] == [(snapshot, ["a"])] * 4
    downloaded = [key for call, key in fakes.objects.calls if call == "get_range" and "/docs/" in key]
    copies = Path(fakes.settings.chromadb_cache_dir) / "scratch"
    assert len([path for path in copies.iterdir() if path.is_dir()]) == 1
    assert len(downloaded) == len(set(downloaded))


def test_after_a_failed_download_the_next_query_downloads_again(fakes: Fakes, reader: SnapshotReader) -> None:
    snapshot = publish(fakes, "a")
    failing(fakes, "get_range")
    with pytest.raises(TransientStorageError):
        read(fakes, reader)

    fakes.objects.before = lambda _call, _key: None

    assert read(fakes, reader) == (snapshot, ["a"])


@pytest.mark.parametrize("call", ["get_if_changed", "get", "get_range"])
def test_a_refresh_that_s3_fails_does_not_fail_the_query(fakes: Fakes, reader: SnapshotReader, call: str) -> None:
    old = publish(fakes, "a")
    read(fakes, reader)
    new = publish(fakes, "b", at=1)
    failing(fakes, call)

    assert read(fakes, reader) == (old, ["a"])

    fakes.objects.before = lambda _call, _key: None
    assert read(fakes, reader) == (new, ["a", "b"])


def test_of_two_refreshes_the_one_that_began_first_does_not_restore_an_older_snapshot(
    fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor
) -> None:
    publish(fakes, "a")
    read(fakes, reader)
    publish(fakes, "b", at=1)

    # The first refresh has read the pointer of the second snapshot, and is blocked at its manifest.
    with blocked(fakes, "get") as blocked_call:
        first = pool.submit(read, fakes, reader)
        assert blocked_call.reached.wait(SECONDS)
        fakes.objects.before = lambda _call, _key: None
        newest = publish(fakes, "c", at=2)
        assert read(fakes, reader) == (newest, ["a", "b", "c"])
        blocked_call.over.set()
        assert first.result(SECONDS) == (newest, ["a", "b", "c"])
    assert read(fakes, reader) == (newest, ["a", "b", "c"])


def test_a_pointer_restored_to_its_previous_version_is_followed(fakes: Fakes, reader: SnapshotReader) -> None:
    old = publish(fakes, "a")
    before = fakes.objects.objects[pointer_key()].body
    publish(fakes, "b", at=1)
    assert read(fakes, reader)[1] == ["a", "b"]

    fakes.objects.put(pointer_key(), before)

    assert read(fakes, reader) == (old, ["a"])


def test_a_reading_of_one_snapshot_waits_for_its_download_and_uses_no_older_copy(
    fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor
) -> None:
    publish(fakes, "a")
    read(fakes, reader)
    new = publish(fakes, "b", at=1)

    def read_current() -> tuple[str, list[str]]:
        current = reader.read_current(fakes.services)
        assert current is not None
        with reader.reading_of(fakes.services, current, "docs") as readable:
            assert readable.collection is not None
            return readable.snapshot_id, readable.collection.get(include=[])["ids"]

    with blocked(fakes, "get_range") as blocked_call:
        waiting = [pool.submit(read_current) for _ in range(2)]
        assert blocked_call.reached.wait(SECONDS)
        assert not any(each.done() for each in waiting)
        blocked_call.over.set()
        assert [each.result(SECONDS) for each in waiting] == [(new, ["a", "b"])] * 2


def test_a_reading_of_a_snapshot_that_was_replaced_is_refused(fakes: Fakes, reader: SnapshotReader) -> None:
    publish(fakes, "a")
    old = reader.read_current(fakes.services)
    publish(fakes, "b", at=1)
    reader.read_current(fakes.services)
    assert old is not None

    with pytest.raises(SnapshotConflictError), reader.reading_of(fakes.services, old, "docs"):
        pass


def test_before_anything_is_published_there_is_no_current_snapshot(fakes: Fakes, reader: SnapshotReader) -> None:
    assert reader.read_current(fakes.services) is None


def test_a_lost_pointer_is_not_taken_for_an_empty_bucket(fakes: Fakes, reader: SnapshotReader) -> None:
    publish(fakes, "a")
    fakes.objects.objects.pop(pointer_key())

    with pytest.raises(SnapshotCorruptError, match="has been published"):
        reader.read_current(fakes.services)
