"""Who waits for a snapshot to be fetched, and who does not: an object store whose downloads stand still."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from chromadb_compaction.errors import TransientStorageError
from chromadb_compaction.layout import pointer_key
from chromadb_compaction.snapshots.reader import SnapshotReader
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import compact

SECONDS = 20
"""More than anything here takes, and far less than for ever."""


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return new_fakes(chromadb_cache_dir=tmp_path / "cache")


@pytest.fixture
def reader() -> Iterator[SnapshotReader]:
    reader = SnapshotReader()
    yield reader
    reader.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Standstill:
    """`reached` is set when a call has come to a stop; it goes on when `over` is set."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.over = threading.Event()


@contextmanager
def standstill(fakes: Fakes, call: str) -> Iterator[Standstill]:
    """Hold every `call` to the store until the block ends, or says that it is over."""
    still = Standstill()

    def hold(called: str, _key: str) -> None:
        if called == call:
            still.reached.set()
            assert still.over.wait(SECONDS)

    fakes.objects.before = hold
    try:
        yield still
    finally:
        still.over.set()
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


def test_while_one_collection_is_fetched_others_are_read_without_waiting(
    fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor
) -> None:
    publish(fakes, "a")
    snapshot = publish(fakes, "x", collection="others")
    read(fakes, reader)

    with standstill(fakes, "download") as still:
        waiting = pool.submit(read, fakes, reader, "others")
        assert still.reached.wait(SECONDS)
        assert read(fakes, reader) == (snapshot, ["a"])
        assert not waiting.done()
        still.over.set()
        assert waiting.result(SECONDS) == (snapshot, ["x"])


def test_while_a_new_snapshot_is_fetched_the_one_before_answers(
    fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor
) -> None:
    old = publish(fakes, "a")
    read(fakes, reader)
    new = publish(fakes, "b", at=1)

    with standstill(fakes, "download") as still:
        first = pool.submit(read, fakes, reader)
        assert still.reached.wait(SECONDS)
        assert [read(fakes, reader) for _ in range(3)] == [(old, ["a"])] * 3
        assert not first.done()
        still.over.set()
        assert first.result(SECONDS) == (new, ["a", "b"])
    assert read(fakes, reader) == (new, ["a", "b"])


def test_a_manifest_that_is_slow_to_come_holds_up_nobody_else(
    fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor
) -> None:
    publish(fakes, "a")
    read(fakes, reader)
    new = publish(fakes, "b", at=1)

    with standstill(fakes, "get") as still:
        first = pool.submit(read, fakes, reader)
        assert still.reached.wait(SECONDS)
        with reader._state:  # nobody holds it meanwhile
            assert not first.done()
        still.over.set()
        assert first.result(SECONDS) == (new, ["a", "b"])


def test_a_collection_is_fetched_once_however_many_wait_for_it(
    fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor
) -> None:
    snapshot = publish(fakes, "a")

    with standstill(fakes, "download") as still:
        waiting = [pool.submit(read, fakes, reader) for _ in range(4)]
        assert still.reached.wait(SECONDS)
        still.over.set()
        assert [future.result(SECONDS) for future in waiting] == [(snapshot, ["a"])] * 4
    downloaded = [key for call, key in fakes.objects.calls if call == "download" and "/docs/" in key]
    copies = Path(fakes.settings.chromadb_cache_dir) / "scratch"
    assert len([path for path in copies.iterdir() if path.is_dir()]) == 1
    assert len(downloaded) == len(set(downloaded))


def test_a_fetch_that_fails_leaves_the_way_free_for_the_next(fakes: Fakes, reader: SnapshotReader) -> None:
    snapshot = publish(fakes, "a")
    failing(fakes, "download")
    with pytest.raises(TransientStorageError):
        read(fakes, reader)

    fakes.objects.before = lambda _call, _key: None

    assert read(fakes, reader) == (snapshot, ["a"])


@pytest.mark.parametrize("call", ["get_if_changed", "get", "download"])
def test_a_refresh_that_s3_fails_does_not_fail_the_query(fakes: Fakes, reader: SnapshotReader, call: str) -> None:
    old = publish(fakes, "a")
    read(fakes, reader)
    new = publish(fakes, "b", at=1)
    failing(fakes, call)

    assert read(fakes, reader) == (old, ["a"])

    fakes.objects.before = lambda _call, _key: None
    assert read(fakes, reader) == (new, ["a", "b"])


def test_of_two_looks_at_the_pointer_the_one_that_began_first_does_not_turn_the_clock_back(
    fakes: Fakes, reader: SnapshotReader, pool: ThreadPoolExecutor
) -> None:
    publish(fakes, "a")
    read(fakes, reader)
    publish(fakes, "b", at=1)

    # The first look has read the second snapshot's pointer, and stands still at its manifest.
    with standstill(fakes, "get") as still:
        first = pool.submit(read, fakes, reader)
        assert still.reached.wait(SECONDS)
        fakes.objects.before = lambda _call, _key: None
        newest = publish(fakes, "c", at=2)
        assert read(fakes, reader) == (newest, ["a", "b", "c"])
        still.over.set()
        assert first.result(SECONDS) == (newest, ["a", "b", "c"])
    assert read(fakes, reader) == (newest, ["a", "b", "c"])


def test_a_pointer_put_back_to_its_previous_version_is_followed(fakes: Fakes, reader: SnapshotReader) -> None:
    old = publish(fakes, "a")
    before = fakes.objects.objects[pointer_key()].body
    publish(fakes, "b", at=1)
    assert read(fakes, reader)[1] == ["a", "b"]

    fakes.objects.put(pointer_key(), before)

    assert read(fakes, reader) == (old, ["a"])
