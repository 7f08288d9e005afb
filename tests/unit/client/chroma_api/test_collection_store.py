"""Collections for many threads and many processes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uuid_utils
from chromadb.errors import InternalError, NotFoundError, RateLimitError, UniqueConstraintError

from chromadb_compaction.client.chroma_client import Client
from chromadb_compaction.deltas.versions import uuid7_at
from chromadb_compaction.errors import TransientStorageError
from tests.fakes.bucket_client import bucket_in_memory, client_of
from tests.fakes.services import Fakes

ONE: Any = [[1.0]]
TWO: Any = [[2.0]]


@pytest.fixture
def bucket() -> Fakes:
    return bucket_in_memory()


@pytest.fixture
def client(bucket: Fakes) -> Iterator[Client]:
    with client_of(bucket) as opened:
        yield opened


@pytest.fixture
def elsewhere(bucket: Fakes) -> Iterator[Client]:
    """Return a client of the same bucket in another process."""
    with client_of(bucket) as opened:
        yield opened


def deltas(bucket: Fakes) -> int:
    return sum(key.startswith("delta/") for key in bucket.objects.objects)


def failing(call: str, prefix: str) -> Callable[[str, str], None]:
    def fail(name: str, key: str) -> None:
        if name == call and key.startswith(prefix):
            raise TransientStorageError(f"{call} {key} failed")

    return fail


def test_a_handle_of_a_collection_that_was_dropped_and_made_again_finds_nothing(client: Client) -> None:
    old = client.create_collection("docs", embedding_function=None)
    client.delete_collection("docs")
    new = client.create_collection("docs", embedding_function=None)

    new.add(ids=["a"], embeddings=ONE)

    assert new.count() == 1
    for call in (old.count, old.get, lambda: old.add(ids=["b"], embeddings=ONE)):
        with pytest.raises(NotFoundError, match=f"Collection .{old.id}. does not exist"):
            call()
    assert new.get()["ids"] == ["a"]


def test_a_handle_works_in_another_process(client: Client, elsewhere: Client) -> None:
    made = client.create_collection("docs", embedding_function=None)
    made.add(ids=["a"], embeddings=ONE)

    found = elsewhere.get_collection_by_id(made.id, embedding_function=None)

    assert found == made
    assert found.get()["ids"] == ["a"]


def test_a_collection_is_created_once(client: Client, elsewhere: Client) -> None:
    client.create_collection("docs", embedding_function=None, metadata={"owner": "first"})

    with pytest.raises(UniqueConstraintError, match="already exists"):
        elsewhere.create_collection("docs", embedding_function=None)
    found = elsewhere.get_or_create_collection("docs", embedding_function=None, metadata={"owner": "second"})
    assert found.metadata == {"owner": "first"}


def test_threads_that_update_one_record_lose_nothing(client: Client) -> None:
    docs = client.create_collection("docs", embedding_function=None)
    docs.add(ids=["a"], embeddings=ONE)
    names = [f"key{number}" for number in range(8)]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: docs.update(ids=["a"], metadatas=[{name: 1}]), names))

    assert docs.get()["metadatas"] == [dict.fromkeys(names, 1)]


def test_of_two_processes_that_update_one_record_the_later_one_wins_with_the_whole_record(
    client: Client, elsewhere: Client, bucket: Fakes
) -> None:
    here = client.create_collection("docs", embedding_function=None)
    here.add(ids=["a"], embeddings=ONE, documents=["old"])
    there = elsewhere.get_collection("docs", embedding_function=None)

    def update_elsewhere(call: str, key: str) -> None:
        """Update the record after the first process has read it, and before it writes."""
        if call == "put" and key.startswith("delta/"):
            bucket.objects.before = lambda _call, _key: None
            there.update(ids=["a"], metadatas=[{"there": 1}])

    bucket.objects.before = update_elsewhere
    here.update(ids=["a"], metadatas=[{"here": 1}])

    for each in (here, there):
        assert each.get()["metadatas"] == [{"there": 1}]
        assert each.get()["documents"] == ["old"]


def test_updates_in_turn_of_two_processes_are_both_kept(client: Client, elsewhere: Client) -> None:
    here = client.create_collection("docs", embedding_function=None)
    here.add(ids=["a"], embeddings=ONE, documents=["old"])
    there = elsewhere.get_collection("docs", embedding_function=None)

    there.update(ids=["a"], metadatas=[{"there": 1}])
    here.update(ids=["a"], metadatas=[{"here": 1}])

    assert here.get()["metadatas"] == [{"there": 1, "here": 1}]


def test_a_call_that_failed_writes_nothing_later(client: Client, bucket: Fakes) -> None:
    docs = client.create_collection("docs", embedding_function=None)
    bucket.objects.before = failing("put", "delta/docs/")
    with pytest.raises(InternalError, match="TransientStorage"):
        docs.add(ids=["failed"], embeddings=ONE)
    bucket.objects.before = lambda _call, _key: None

    docs.add(ids=["a"], embeddings=ONE)

    assert docs.get()["ids"] == ["a"]


def test_a_call_that_changes_nothing_writes_nothing(client: Client, bucket: Fakes) -> None:
    docs = client.create_collection("docs", embedding_function=None)
    docs.add(ids=["a"], embeddings=ONE)
    before = deltas(bucket)

    docs.add(ids=["a"], embeddings=TWO)
    docs.update(ids=["b"], embeddings=TWO)
    docs.delete(where={"n": 1})

    assert deltas(bucket) == before


def test_every_write_notifies_the_queue() -> None:
    bucket = bucket_in_memory(delta_queue_url="https://queue")
    with client_of(bucket) as client:
        docs = client.create_collection("docs", embedding_function=None)
        docs.add(ids=["a"], embeddings=ONE)
        docs.delete(ids=["a"])

    assert len([call for call in bucket.queue.calls if call == "notify"]) == deltas(bucket)


def test_nothing_is_changed_that_a_delta_beyond_the_bounds_may_have_changed() -> None:
    bucket = bucket_in_memory(pending_deltas=2)
    with client_of(bucket) as client:
        docs = client.create_collection("docs", embedding_function=None)
        docs.add(ids=["a"], embeddings=ONE)
        docs.add(ids=["b"], embeddings=ONE)
        before = deltas(bucket)

        for call in (lambda: docs.upsert(ids=["b"], embeddings=TWO), lambda: docs.delete(where={"n": 1})):
            with pytest.raises(RateLimitError, match="run `chromadb-compaction compact`"):
                call()

        assert deltas(bucket) == before
        assert docs.get()["ids"] == ["a"]


def test_a_delta_that_cannot_be_read_stops_no_write(client: Client, bucket: Fakes) -> None:
    docs = client.create_collection("docs", embedding_function=None)
    docs.add(ids=["a"], embeddings=ONE)
    bucket.objects.unreadable.add(max(key for key in bucket.objects.objects if key.startswith("delta/docs/")))
    with client_of(bucket) as elsewhere:
        elsewhere.get_collection("docs", embedding_function=None).add(ids=["b"], embeddings=ONE)

        assert elsewhere.get_collection("docs", embedding_function=None).get()["ids"] == ["b"]


def test_a_slower_clock_does_not_undo_a_call(
    client: Client, elsewhere: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = client.create_collection("docs", embedding_function=None)
    here.add(ids=["a", "b"], embeddings=ONE + TWO, metadatas=[{"n": 1}, {"n": 1}])
    behind(monkeypatch, seconds=3)
    there = elsewhere.get_collection("docs", embedding_function=None)

    there.update(ids=["a"], metadatas=[{"n": 2}])
    there.delete(ids=["b"])

    assert (here.get()["ids"], here.get()["metadatas"]) == (["a"], [{"n": 2}])


def test_a_slower_clock_drops_and_makes_collections_too(
    client: Client, elsewhere: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_collection("docs", embedding_function=None).add(ids=["a"], embeddings=ONE)
    behind(monkeypatch, seconds=3)

    elsewhere.delete_collection("docs")
    assert client.list_collections() == []

    elsewhere.create_collection("docs", embedding_function=None)
    assert client.get_collection("docs", embedding_function=None).count() == 0


def behind(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    """Set the clock back that names deltas, as a machine does whose clock is slow."""
    monkeypatch.setattr(uuid_utils, "uuid7", lambda: uuid7_at(time.time() - seconds, secrets.randbits(74)))
