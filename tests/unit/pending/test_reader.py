"""Fresh reads over the in-memory bucket: the published snapshot joined with pending deltas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.errors import NoSnapshotError, NoSuchCollectionError, TransientStorageError
from chromadb_compaction.fold import fold
from chromadb_compaction.layout import merged_deltas_key
from chromadb_compaction.operations.rollback import RollbackRequest, rollback
from chromadb_compaction.pending.collection import CollectionDescription
from chromadb_compaction.pending.reader import FreshReader
from tests.builders import NOW, BuiltDelta, a_delta, a_drop
from tests.fakes.services import Fakes, new_fakes
from tests.passes import Pass, compact


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return new_fakes(chromadb_cache_dir=tmp_path / "cache")


@pytest.fixture
def reader() -> Iterator[FreshReader]:
    reader = FreshReader()
    yield reader
    reader.close()


def put(fakes: Fakes, *deltas: BuiltDelta) -> None:
    for delta in deltas:
        delta.put_into(fakes.objects)


def ids(fakes: Fakes, reader: FreshReader, name: str = "docs", *, refresh: bool = True) -> list[str]:
    with reader.reading(fakes.services, name, refresh=refresh) as collection:
        found = collection.get(Filters(), limit=None, offset=None, include=[])["ids"]
        assert collection.count() == len(found)
        return found


def nearest(fakes: Fakes, reader: FreshReader, vector: list[float], n_results: int = 10) -> list[str]:
    with reader.reading(fakes.services, "docs", refresh=True) as collection:
        questions = np.array([vector], dtype=np.float32)
        return collection.query(questions, n_results=n_results, filters=Filters(), include=["distances"])["ids"][0]


def test_a_collection_that_only_pending_deltas_make_is_readable(fakes: Fakes, reader: FreshReader) -> None:
    put(fakes, a_delta({"a": [1, 0], "b": [0, 1]}, documents={"a": "a fox"}, metadatas={"b": {"n": 1}}))

    with reader.reading(fakes.services, "docs") as collection:
        found = collection.get(Filters(), limit=None, offset=None, include=["documents", "metadatas", "uris"])
        assert (collection.snapshot_id, collection.count(), collection.pending) == (None, 2, (1, 0))
        assert collection.description == CollectionDescription(2, "l2", None)
    assert (found["ids"], found["documents"], found["metadatas"]) == (["a", "b"], ["a fox", None], [None, {"n": 1}])
    assert nearest(fakes, reader, [0, 1]) == ["b", "a"]


def test_pending_rows_are_joined_with_the_snapshot(fakes: Fakes, reader: FreshReader) -> None:
    snapshot = compact(fakes, a_delta({"a": [1, 0], "b": [2, 0], "c": [3, 0]}, at=NOW)).snapshot_id
    put(fakes, a_delta({"b": [9, 0], "d": [4, 0]}, deletes={"c"}, at=NOW + 1))

    assert ids(fakes, reader) == ["a", "b", "d"]
    assert nearest(fakes, reader, [0, 0]) == ["a", "d", "b"]
    with reader.reading(fakes.services, "docs") as collection:
        assert (collection.snapshot_id, collection.pending) == (snapshot, (1, 0))
        assert collection.get(Filters(ids=["c"]), limit=None, offset=None, include=[])["ids"] == []


def test_a_late_older_upsert_does_not_replace_a_newer_record(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, deletes={"b"}, at=NOW + 10))
    put(fakes, a_delta({"a": [7, 0], "b": [8, 0], "new": [5, 0]}, at=NOW))

    assert nearest(fakes, reader, [7, 0]) == ["new", "a"]


def test_a_delta_that_would_be_quarantined_is_not_seen(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    put(
        fakes,
        a_delta({"b": [1, 0, 0]}, at=NOW + 1),
        a_delta({"c": [2, 0]}, at=NOW + 2),
        BuiltDelta("delta/docs/x", b""),
    )

    assert ids(fakes, reader) == ["a", "c"]


def test_the_oldest_valid_delta_decides_the_shape(fakes: Fakes, reader: FreshReader) -> None:
    first = a_delta({"a": [1, 0, 0]}, at=NOW + 1, header={"space": "cosine", "embedding_function": "wordllama"})
    put(fakes, a_delta({"b": [1, 0]}, at=NOW + 2), first, a_delta(deletes={"x"}, at=NOW))

    with reader.reading(fakes.services, "docs") as collection:
        assert collection.description[:3] == (3, "cosine", "wordllama")
    assert ids(fakes, reader) == ["a"]


def test_a_collection_without_any_delta_does_not_exist(fakes: Fakes, reader: FreshReader) -> None:
    with pytest.raises(NoSuchCollectionError, match="'docs'"), reader.reading(fakes.services, "docs"):
        pass
    with pytest.raises(NoSnapshotError), reader.reading(fakes.services, "docs", read_level="snapshot"):
        pass


def test_a_reading_of_the_snapshot_alone_leaves_pending_deltas_out(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    put(fakes, a_delta({"b": [2, 0]}, at=NOW + 1))

    with reader.reading(fakes.services, "docs", read_level="snapshot") as collection:
        found = collection.get(Filters(where_document={"$contains": "x"}), limit=None, offset=None, include=[])
        assert (collection.count(), collection.pending, found["ids"]) == (1, (0, 0), [])


def test_deltas_are_listed_once_in_a_refresh_period_unless_the_caller_has_written(
    fakes: Fakes, reader: FreshReader
) -> None:
    put(fakes, a_delta({"a": [1, 0]}, at=NOW))
    assert ids(fakes, reader, refresh=False) == ["a"]
    put(fakes, a_delta({"b": [1, 0]}, at=NOW + 1))

    assert ids(fakes, reader, refresh=False) == ["a"]
    assert ids(fakes, reader, refresh=True) == ["a", "b"]
    put(fakes, a_delta({"c": [1, 0]}, at=NOW + 2))
    fakes.clock.tick(1)
    assert ids(fakes, reader, refresh=False) == ["a", "b", "c"]


def test_a_delta_is_fetched_once(fakes: Fakes, reader: FreshReader) -> None:
    for number in range(5):
        put(fakes, a_delta({str(number): [1, 0]}, at=NOW + number))
        assert len(ids(fakes, reader)) == number + 1

    fetched = [key for call, key in fakes.objects.calls if call == "get" and key.startswith("delta/")]
    assert len(fetched) == len(set(fetched)) == 5


def test_a_delta_that_clean_up_moves_after_the_list_is_found_in_the_snapshot(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    assert ids(fakes, reader) == ["a"]
    put(fakes, a_delta({"b": [2, 0]}, at=NOW + 1))
    fakes.objects.run_before_next("get_if_changed", lambda _key: compact(fakes))

    assert ids(fakes, reader) == ["a", "b"]


def test_a_delta_that_leaves_before_it_is_fetched_makes_the_reading_begin_again(
    fakes: Fakes, reader: FreshReader
) -> None:
    put(fakes, a_delta({"a": [1, 0]}, at=NOW))

    def vanish(call: str, key: str) -> None:
        if call == "get" and key.startswith("delta/"):
            fakes.objects.objects.pop(key, None)
            put(fakes, a_delta({"b": [1, 0]}, at=NOW + len(fakes.objects.calls)))

    fakes.objects.before = vanish
    with pytest.raises(TransientStorageError, match="4 attempts"):
        ids(fakes, reader)
    fakes.objects.before = lambda _call, _key: None
    assert ids(fakes, reader) == ["b"]


def test_the_error_says_that_deltas_of_a_missing_collection_exceed_the_bounds(
    tmp_path: Path, reader: FreshReader
) -> None:
    fakes = new_fakes(chromadb_cache_dir=tmp_path, pending_rows=1)
    put(fakes, a_delta({"a": [1, 0], "b": [0, 1]}))

    with pytest.raises(
        NoSuchCollectionError, match="the bounds of a fresh read leave out 1 of its pending deltas"
    ) as raised:
        ids(fakes, reader)
    assert "after the next compaction" in str(raised.value.next_step)


def test_pending_deltas_beyond_the_bounds_are_left_oldest_first(tmp_path: Path, reader: FreshReader) -> None:
    fakes = new_fakes(chromadb_cache_dir=tmp_path, pending_deltas=2)
    put(fakes, *(a_delta({str(number): [1, 0]}, at=NOW + number) for number in range(5)))

    with reader.reading(fakes.services, "docs") as collection:
        assert collection.pending == (2, 3)
        assert collection.get(Filters(), limit=None, offset=None, include=[])["ids"] == ["0", "1"]


@pytest.mark.parametrize("bound", [{"pending_rows": 5}, {"pending_bytes": 5_000}])
def test_rows_and_bytes_are_bounded_too(tmp_path: Path, reader: FreshReader, bound: dict[str, int]) -> None:
    fakes = new_fakes(chromadb_cache_dir=tmp_path, **bound)
    put(fakes, a_delta({"a": [1, 0]}, at=NOW), a_delta({str(n): [n, 0] for n in range(400)}, at=NOW + 1))
    put(fakes, a_delta({"late": [1, 0]}, at=NOW + 2))

    with reader.reading(fakes.services, "docs") as collection:
        assert (collection.pending, collection.count()) == ((1, 2), 1)


def test_a_delta_that_cannot_be_read_is_left_and_later_ones_are_seen(fakes: Fakes, reader: FreshReader) -> None:
    unreadable = a_delta({"a": [1, 0]}, at=NOW)
    put(fakes, unreadable, a_delta({"b": [1, 0]}, at=NOW + 1))
    fakes.objects.unreadable.add(unreadable.key)

    with reader.reading(fakes.services, "docs") as collection:
        assert (collection.pending, collection.count()) == ((1, 1), 1)
    fakes.objects.unreadable.clear()
    assert ids(fakes, reader) == ["a", "b"]


def test_every_collection_that_a_fresh_read_sees_is_listed(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, collection="old", at=NOW))
    put(fakes, a_delta({"a": [1, 0, 0]}, collection="new", header={"space": "ip"}, at=NOW + 1))
    put(fakes, BuiltDelta("delta/broken/x.parquet", b""), BuiltDelta("delta/no", b""))

    assert reader.collections(fakes.services) == {
        "new": CollectionDescription(3, "ip", None),
        "old": CollectionDescription(2, "l2", None),
    }
    assert list(reader.collections(fakes.services, read_level="snapshot")) == ["old"]


def test_deltas_that_are_published_and_not_yet_archived_change_nothing(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    put(fakes, a_delta({"b": [2, 0]}, deletes={"a"}, at=NOW + 1))
    Pass(fakes).up_to_upload().upload()

    assert ids(fakes, reader) == ["b"]


def test_a_pending_drop_hides_what_is_older(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    put(fakes, a_delta({"b": [2, 0]}, at=NOW + 1), a_drop(at=NOW + 2))

    with pytest.raises(NoSuchCollectionError), reader.reading(fakes.services, "docs"):
        pass
    assert reader.collections(fakes.services) == {}


def test_newer_deltas_remake_a_dropped_collection_in_another_shape(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    put(fakes, a_drop(at=NOW + 2), a_delta({"c": [1, 0, 0]}, at=NOW + 3, header={"space": "cosine"}))

    assert ids(fakes, reader) == ["c"]
    with reader.reading(fakes.services, "docs") as collection:
        assert (collection.description.dimension, collection.description.space) == (3, "cosine")
        assert collection.pending == (2, 0)


def test_a_late_drop_hides_only_the_records_that_are_older(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0], "b": [2, 0]}, at=NOW))
    compact(fakes, a_delta({"b": [3, 0]}, at=NOW + 5))
    put(fakes, a_drop(at=NOW + 2))

    assert ids(fakes, reader) == ["b"]


def test_a_late_delta_from_before_a_published_drop_stays_out(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW), a_drop(at=NOW + 2))
    put(fakes, a_delta({"b": [2, 0]}, at=NOW + 1), a_delta({"c": [2, 0, 0]}, at=NOW + 3))

    assert ids(fakes, reader) == ["c"]


def test_settings_and_an_empty_collection_are_seen_before_they_are_merged(fakes: Fakes, reader: FreshReader) -> None:
    stated = {"metadata": {"k": 1}, "configuration": {"hnsw": {"space": "ip", "ef_search": 7}}}
    put(fakes, a_delta(header={"format": 2, "collection": stated}, at=NOW))

    with reader.reading(fakes.services, "docs") as collection:
        hnsw = collection.description.configuration.hnsw
        assert (collection.count(), collection.description.metadata) == (0, {"k": 1})
        assert hnsw is not None
        assert (hnsw.space, hnsw.ef_search) == ("ip", 7)
    put(fakes, a_delta({"a": [1, 0]}, at=NOW + 1), a_delta({"b": [1, 0]}, at=NOW + 2, header={"space": "l2"}))
    assert ids(fakes, reader) == ["a"]


def ledgers_read(fakes: Fakes) -> int:
    return sum(call == "download" and key.endswith("ledger.parquet") for call, key in fakes.objects.calls)


@pytest.mark.usefixtures("unpacked")
def test_the_ledger_is_read_only_for_deltas_that_may_be_older_than_a_record(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW + 5))
    put(fakes, a_delta({"a": [2, 0]}, at=NOW + 6))
    fakes.objects.calls.clear()

    assert nearest(fakes, reader, [2, 0]) == ["a"]
    assert ledgers_read(fakes) == 0
    for number in range(3):
        put(fakes, a_delta({"b": [1, 0]}, at=NOW + number))
        assert ids(fakes, reader) == ["a", "b"]
    assert ledgers_read(fakes) == 1


@pytest.mark.usefixtures("unpacked")
def test_a_snapshot_of_a_version_that_did_not_state_its_newest_delta_is_compared(
    fakes: Fakes, reader: FreshReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "newest_delta", lambda _ledger: None)
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW + 5))
    put(fakes, a_delta({"a": [9, 0], "b": [9, 0]}, at=NOW))

    assert nearest(fakes, reader, [9, 0]) == ["b", "a"]
    assert ledgers_read(fakes) == 1


def test_deltas_that_wait_for_their_clean_up_do_not_count_in_the_bounds(tmp_path: Path, reader: FreshReader) -> None:
    fakes = new_fakes(chromadb_cache_dir=tmp_path, pending_deltas=2)
    put(fakes, *(a_delta({str(number): [1, 0]}, at=NOW + number) for number in range(5)))
    Pass(fakes).up_to_upload().upload()
    put(fakes, a_delta({"new": [1, 0]}, at=NOW + 9))
    fakes.objects.calls.clear()

    with reader.reading(fakes.services, "docs") as collection:
        assert (collection.pending, collection.count()) == ((1, 0), 6)
    assert sum(call == "get" and key.startswith("delta/") for call, key in fakes.objects.calls) == 1
    assert ledgers_read(fakes) == 0


def test_a_damaged_list_of_merged_deltas_changes_no_answer(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    put(fakes, a_delta({"b": [2, 0]}, deletes={"a"}, at=NOW + 1))
    published = Pass(fakes).up_to_upload().upload()
    assert published.snapshot_id is not None
    fakes.objects.put(merged_deltas_key(published.snapshot_id), b"damaged")

    assert ids(fakes, reader) == ["b"]


def test_a_rollback_between_list_and_pointer_hides_nothing_that_it_replays(fakes: Fakes, reader: FreshReader) -> None:
    first = compact(fakes, a_delta({"a": [1, 0]}, at=NOW)).snapshot_id
    compact(fakes, a_delta({"b": [1, 0]}, at=NOW + 1))
    assert ids(fakes, reader) == ["a", "b"]
    assert first is not None
    fakes.leases.leases.clear()
    request = RollbackRequest(snapshot_id=first, operator="operator:me/1", replay=True)
    fakes.objects.run_before_next("get_if_changed", lambda _key: rollback(request, fakes.services))

    with reader.reading(fakes.services, "docs", refresh=True) as collection:
        assert (collection.snapshot_id, collection.pending, collection.count()) == (first, (1, 0), 2)


def test_a_rollback_without_replay_gives_the_rows_up(fakes: Fakes, reader: FreshReader) -> None:
    first = compact(fakes, a_delta({"a": [1, 0]}, at=NOW)).snapshot_id
    compact(fakes, a_delta({"b": [1, 0]}, at=NOW + 1))
    assert first is not None
    fakes.leases.leases.clear()
    rollback(RollbackRequest(snapshot_id=first, operator="operator:me/1"), fakes.services)

    assert ids(fakes, reader) == ["a"]


def test_a_delta_whose_key_was_merged_with_other_content_is_not_seen(fakes: Fakes, reader: FreshReader) -> None:
    delta = a_delta({"a": [1, 0]}, at=NOW)
    compact(fakes, delta)
    put(fakes, BuiltDelta(delta.key, a_delta({"a": [2, 0], "b": [2, 0]}).body))

    assert nearest(fakes, reader, [1, 0]) == ["a"]


@pytest.mark.parametrize("bound", [{"pending_rows": 3}, {"pending_deltas": 2}])
def test_deltas_from_before_a_pending_drop_do_not_count_in_the_bounds(
    tmp_path: Path, reader: FreshReader, bound: dict[str, int]
) -> None:
    fakes = new_fakes(chromadb_cache_dir=tmp_path, **bound)
    compact(fakes, a_delta({"old": [1, 0]}, at=NOW))
    put(fakes, *(a_delta({f"{n}": [1, 0], f"{n}b": [0, 1]}, at=NOW + n) for n in range(1, 4)))
    put(fakes, a_drop(at=NOW + 5), a_delta({"new": [1, 0, 0]}, at=NOW + 6))

    with reader.reading(fakes.services, "docs") as collection:
        assert (collection.pending, collection.description.dimension) == ((5, 0), 3)
        assert collection.get(Filters(), limit=None, offset=None, include=[])["ids"] == ["new"]


def test_deltas_from_before_a_published_drop_do_not_count_in_the_bounds(tmp_path: Path, reader: FreshReader) -> None:
    fakes = new_fakes(chromadb_cache_dir=tmp_path, pending_deltas=1)
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW), a_drop(at=NOW + 2))
    put(fakes, a_delta({"void": [2, 0]}, at=NOW + 1), a_delta({"c": [2, 0]}, at=NOW + 3))

    assert ids(fakes, reader) == ["c"]
