"""DeltaWriter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import uuid_utils
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.client.clock import CLOCK_TOLERANCE_SECONDS
from chromadb_compaction.client.writer import MOST_BYTES, DeltaWriter
from chromadb_compaction.deltas.drops import DROP_BYTES
from chromadb_compaction.deltas.formats import Delta, read_delta
from chromadb_compaction.deltas.header import DeltaHeader
from chromadb_compaction.deltas.limits import MAX_DIMENSION, MAX_ROW_BYTES
from chromadb_compaction.deltas.versions import uuid7_at, uuid7_seconds
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError, TransientStorageError
from chromadb_compaction.ports import DeltaQueue
from chromadb_compaction.settings import MEBIBYTE
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.queue import InMemoryDeltaQueue


@pytest.fixture
def objects() -> InMemoryObjectStore:
    return InMemoryObjectStore()


@pytest.fixture
def queue() -> InMemoryDeltaQueue:
    return InMemoryDeltaQueue()


def a_writer(objects: InMemoryObjectStore, queue: DeltaQueue | None = None, **options: Any) -> DeltaWriter:
    return DeltaWriter(bucket="a-bucket", objects=objects, queue=queue, **options)


def written(objects: InMemoryObjectStore) -> Iterator[Delta]:
    for key in sorted(objects.objects):
        stored = objects.objects[key]
        yield read_delta(key, stored.body, now=stored.modified, max_bytes=64 * MEBIBYTE)


def test_rows_are_written_in_the_order_of_the_calls(objects: InMemoryObjectStore) -> None:
    with a_writer(objects) as writer:
        writer.upsert("docs", ["a", "b"], [[1, 2], [3, 4]], documents=["x", None], metadatas=[None, {"n": 1}])
        writer.delete("docs", ["a"])
        writer.upsert("docs", ["c"], np.array([[5, 6]]), uris=["s3://c"])

    (delta,) = written(objects)
    assert writer.written == list(objects.objects)
    assert delta.table["id"].to_pylist() == ["a", "b", "a", "c"]
    assert delta.table["uri"].to_pylist() == [None, None, None, "s3://c"]
    assert delta.table["deleted"].to_pylist() == [False, False, True, False]
    assert delta.table["embedding"].to_pylist() == [[1, 2], [3, 4], None, [5, 6]]
    assert delta.table["document"].to_pylist() == ["x", None, None, None]
    assert delta.table["metadata"].to_pylist() == [None, '{"n":1}', None, None]


def test_each_collection_has_its_own_files(objects: InMemoryObjectStore) -> None:
    with a_writer(objects) as writer:
        writer.upsert("docs", ["a"], [[1]])
        writer.upsert("notes", ["a"], [[1, 2]])

    assert [delta.collection for delta in written(objects)] == ["docs", "notes"]


def test_the_header_has_the_settings_of_a_new_collection(objects: InMemoryObjectStore) -> None:
    with a_writer(objects, space="cosine", embedding_function="wordllama", producer="me") as writer:
        writer.upsert("docs", ["a"], [[1]])

    (delta,) = written(objects)
    assert delta.header == DeltaHeader(space="cosine", embedding_function="wordllama", producer="me")


def test_files_are_cut_at_one_to_five_megabytes(objects: InMemoryObjectStore) -> None:
    vectors = np.random.default_rng(0).standard_normal((10_000, 384))
    ids = [str(number) for number in range(10_000)]

    with a_writer(objects) as writer:
        writer.upsert("docs", ids, vectors)
        early = len(objects.objects)

    sizes = [len(objects.objects[key].body) for key in writer.written]
    assert early == len(sizes) - 1 == 3
    assert all(MEBIBYTE < size < 5 * MEBIBYTE for size in sizes)
    assert [row_id for delta in written(objects) for row_id in delta.table["id"].to_pylist()] == ids


@pytest.mark.parametrize("rows", [700, 3000, 3300, 5700])
def test_of_several_files_none_is_below_one_megabyte(objects: InMemoryObjectStore, rows: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((rows, 384))

    with a_writer(objects) as writer:
        writer.upsert("docs", [str(number) for number in range(rows)], vectors)

    sizes = [len(objects.objects[key].body) for key in writer.written]
    assert all(MEBIBYTE < size < 5 * MEBIBYTE for size in sizes)


def test_files_end_at_the_same_rows_for_any_number_of_rows_per_call(queue: InMemoryDeltaQueue) -> None:
    vectors = np.random.default_rng(0).standard_normal((9000, 384))
    cuts = []
    for step in (9000, 4000, 37):
        objects = InMemoryObjectStore()
        with a_writer(objects, queue) as writer:
            for start in range(0, 9000, step):
                some = vectors[start : start + step]
                writer.upsert("docs", [str(start + number) for number in range(len(some))], some)
        cuts.append([delta.table["id"].to_pylist() for delta in written(objects)])

    assert cuts[0] == cuts[1] == cuts[2]


def test_a_given_dimension_applies_to_the_first_row(objects: InMemoryObjectStore) -> None:
    with a_writer(objects, dimension=3) as writer:
        with pytest.raises(InvalidRequestError, match="embeddings have 2 dimensions, but the collection has 3"):
            writer.upsert("docs", ["a"], [[1, 2]])
        writer.upsert("docs", ["a"], [[1, 2, 3]])
        writer.delete("docs", ["b"])

    assert len(writer.written) == 1


def test_without_early_writes_only_flush_writes(objects: InMemoryObjectStore) -> None:
    with a_writer(objects, early=False) as writer:
        writer.upsert("docs", [str(number) for number in range(9000)], np.ones((9000, 384)))
        assert not objects.objects

    assert len(objects.objects) == len(writer.written) == 4


def test_a_row_above_the_target_size_has_its_own_file(objects: InMemoryObjectStore) -> None:
    with a_writer(objects) as writer:
        writer.upsert("docs", ["a", "b", "c"], [[1], [2], [3]], documents=["", "x" * MOST_BYTES, ""])

    assert [delta.table["id"].to_pylist() for delta in written(objects)] == [["a"], ["b"], ["c"]]


def test_later_files_have_later_names_even_if_the_clock_goes_back(
    objects: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = uuid_utils.uuid7()
    with a_writer(objects) as writer:
        for number in range(20):
            if number == 10:
                monkeypatch.setattr(uuid_utils, "uuid7", lambda: past)
            writer.delete("docs", [str(number)])
            writer.flush()

    names = [UUID(key[-44:-8]) for key in writer.written]
    assert sorted(set(names)) == names
    assert {name.version for name in names} == {7}
    assert uuid7_seconds(names[-1]) >= uuid7_seconds(names[0])


def test_a_writer_whose_clock_was_ahead_stops_naming_into_the_future(
    objects: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = UUID(int=uuid7_at(time.time() + 7200, 0).int)
    writer = a_writer(objects)
    with monkeypatch.context() as jump:
        jump.setattr(uuid_utils, "uuid7", lambda: ahead)
        jump.setattr(time, "time", lambda: uuid7_seconds(ahead))
        writer.delete("docs", ["a"])
        writer.flush()

    writer.delete("docs", ["b"])
    with pytest.warns(RuntimeWarning, match=r"clock was set back.*7\d\d\d s ahead"):
        writer.flush()
    for number in range(3):
        writer.delete("docs", [str(number)])
        writer.flush()

    first, *rest = [UUID(key[-44:-8]) for key in writer.written]
    assert uuid7_seconds(first) > time.time() + 7000
    assert sorted(set(rest)) == rest
    assert all(uuid7_seconds(name) <= time.time() + CLOCK_TOLERANCE_SECONDS for name in rest)


def test_a_flush_returns_its_own_keys(objects: InMemoryObjectStore) -> None:
    writer = a_writer(objects)
    writer.delete("docs", ["a"])
    first = writer.flush()
    writer.delete("docs", ["b"])

    assert writer.flush() + first == [writer.written[1], writer.written[0]]
    assert writer.flush() == []


def test_the_queue_is_notified_after_the_delta_is_stored(
    objects: InMemoryObjectStore, queue: InMemoryDeltaQueue
) -> None:
    def check(_call: str) -> None:
        assert len(objects.objects) == 1

    queue.before = check
    with a_writer(objects, queue) as writer:
        writer.delete("docs", ["a", "b"])

    (notice,) = chain.from_iterable(queue.receive(10))
    assert notice.key == writer.written[0]


def test_a_failed_notification_is_only_a_warning(objects: InMemoryObjectStore, queue: InMemoryDeltaQueue) -> None:
    queue.before = failing
    writer = a_writer(objects, queue)
    writer.delete("docs", ["a"])

    with pytest.warns(
        RuntimeWarning, match="1 deltas are safe in S3, but the queue was not notified: SQS is unreachable"
    ):
        writer.flush()

    assert len(objects.objects) == 1


def failing(*_call: str) -> None:
    raise TransientStorageError("SQS is unreachable")


def test_a_failed_write_is_repeated_under_the_same_key(objects: InMemoryObjectStore) -> None:
    writer = a_writer(objects)
    writer.delete("docs", ["a"])
    objects.after = failing  # the object is written, the response is lost
    with pytest.raises(TransientStorageError):
        writer.flush()
    objects.after = lambda *_call: None

    assert writer.flush() == list(objects.objects)


def test_an_exception_in_the_block_drops_what_is_buffered(objects: InMemoryObjectStore) -> None:
    def interrupted() -> None:
        with a_writer(objects) as writer:
            writer.delete("docs", ["a"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert not objects.objects


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"ids": "ab"}, "ids is a single string"),
        ({"ids": ["a", ""]}, "row 1: id is empty"),
        ({"embeddings": None}, "there are no embeddings, and the writer has no embedding function"),
        ({"embeddings": [[1, 2]]}, "embeddings has 1 entries, but there are 2 ids"),
        ({"embeddings": [[1, 2], [1]]}, "row 1 (id 'b'): embedding has 1 dimensions, but that of row 0 has 2"),
        ({"embeddings": [[1, 2], None]}, "row 1 (id 'b'): embedding is null"),
        ({"embeddings": np.array([[1, 2], [np.nan, 1]])}, "row 1 (id 'b'): embedding holds NaN"),
        ({"embeddings": np.zeros(2)}, "embeddings has 1 axes"),
        ({"embeddings": np.zeros((2, 0))}, "embedding is empty"),
        ({"embeddings": np.array([["1"], ["2"]])}, "embeddings are of numpy type <U1"),
        ({"embeddings": [np.zeros((1, 2)), [1, 2]]}, "row 0 (id 'a'): embedding has 2 axes"),
        ({"documents": "ab"}, "documents is a single str"),
        ({"documents": ["x"]}, "documents has 1 entries, but there are 2 ids"),
        ({"documents": ["x", 5]}, "row 1 (id 'b'): document is a number"),
        ({"metadatas": [{"a": {}}, None]}, "row 0 (id 'a'): metadata key 'a' holds an object"),
        ({"collection": "d"}, "the collection name 'd' breaks the rule"),
    ],
)
def test_an_invalid_call_fails_at_once_and_writes_nothing(
    objects: InMemoryObjectStore, arguments: dict[str, Any], reason: str
) -> None:
    call = {"collection": "docs", "ids": ["a", "b"], "embeddings": [[1, 2], [3, 4]]} | arguments
    with a_writer(objects) as writer, pytest.raises(InvalidRequestError) as caught:
        writer.upsert(**call)

    assert str(caught.value).startswith(reason)
    assert not objects.objects


def test_a_collection_keeps_its_dimension_across_calls_and_files(objects: InMemoryObjectStore) -> None:
    with a_writer(objects) as writer:
        writer.upsert("docs", ["a"], [[1, 2]])
        writer.flush()
        with pytest.raises(InvalidRequestError, match="3 dimensions, but this writer's earlier rows have 2"):
            writer.upsert("docs", ["b"], [[1, 2, 3]])


@pytest.mark.parametrize(
    ("embedding", "document", "reason"),
    [
        ([1e30, 0], None, "embedding is too long"),
        ([1, 2], "x" * MAX_ROW_BYTES, r"it has 16,777,2\d\d bytes, more than the limit"),
        ([1, 2], "é" * (MAX_ROW_BYTES // 2), r"it has 16,777,2\d\d bytes, more than the limit"),
        ([1] * (MAX_DIMENSION + 1), None, "embedding has 16385 dimensions"),
    ],
)
def test_a_row_beyond_the_limits_is_refused_when_it_is_given(
    objects: InMemoryObjectStore, embedding: list[float], document: str | None, reason: str
) -> None:
    with a_writer(objects) as writer:
        with pytest.raises(InvalidRequestError, match=rf"^row 0 \(id 'row-7'\): {reason}"):
            writer.upsert("docs", ["row-7"], [embedding], documents=[document])
        with pytest.raises(InvalidRequestError, match=r"^row 1 "):
            writer.delete("docs", ["a", "x" * MAX_ROW_BYTES])

    assert objects.objects == {}


def test_rows_of_many_metadata_values_are_cut_into_files_that_a_merge_accepts(objects: InMemoryObjectStore) -> None:
    many = {"list": [1] * 5_000}
    with a_writer(objects) as writer:
        writer.upsert("docs", [str(row) for row in range(40)], np.ones((40, 2)), metadatas=[many] * 40)

    assert [delta.table.num_rows for delta in written(objects)] == [11, 11, 11, 7]


def test_an_unknown_space_is_an_error(objects: InMemoryObjectStore) -> None:
    with pytest.raises(InvalidRequestError, match="space: "):
        a_writer(objects, space="euclid")


def test_the_callers_array_may_change_after_the_call(objects: InMemoryObjectStore) -> None:
    vectors = np.ones((1, 2), dtype=np.float32)
    with a_writer(objects) as writer:
        writer.upsert("docs", ["a"], vectors)
        vectors[:] = 9

    (delta,) = written(objects)
    assert delta.table["embedding"].to_pylist() == [[1, 1]]


def test_calls_without_rows_write_nothing(objects: InMemoryObjectStore) -> None:
    with a_writer(objects) as writer:
        writer.upsert("docs", [], [])
        writer.delete("docs", [])

    assert not objects.objects


def test_without_a_bucket_the_error_names_the_variable_to_set(
    objects: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHROMADB_BUCKET", raising=False)
    with pytest.raises(ConfigurationError, match="CHROMADB_BUCKET"):
        DeltaWriter(objects=objects)


def test_bucket_and_queue_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMADB_BUCKET", "a-bucket")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")

    assert DeltaWriter(space="ip").written == []


SETTINGS: dict[str, Any] = {"hnsw": {"space": "cosine", "max_neighbors": 48}}


def test_a_writers_settings_stand_in_each_of_its_deltas(objects: InMemoryObjectStore) -> None:
    with a_writer(objects, configuration=SETTINGS, metadata={"owner": "a"}) as writer:
        writer.upsert("docs", ["a"], [[1, 0]])
        writer.upsert("other", ["a"], [[1, 0]])

    for delta in written(objects):
        assert delta.header.format == 2
        assert delta.header.stated_space == "cosine"
        assert delta.header.collection is not None
        assert delta.header.collection.metadata == {"owner": "a"}


def test_a_collection_is_created_by_a_delta_without_rows_after_the_earlier_rows(objects: InMemoryObjectStore) -> None:
    with a_writer(objects, metadata={"owner": "a"}) as writer:
        writer.upsert("docs", ["a"], [[1, 0]])
        writer.create_collection("docs", configuration=SETTINGS)

    rows, statement = written(objects)
    assert rows.table.num_rows == 1
    assert statement.table.num_rows == 0
    assert statement.header.collection is not None
    assert statement.header.collection.metadata == {"owner": "a"}
    assert statement.header.stated_space == "cosine"


@pytest.mark.parametrize(
    "options",
    [{"metadata": {"a": [1]}}, {"configuration": {"hnsw": {"max_neighbors": 0}}}, {"metadata": {"a": "\ud800"}}],
    ids=["list", "setting", "surrogate"],
)
def test_invalid_settings_are_an_error_and_nothing_is_written(
    objects: InMemoryObjectStore, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError):
        a_writer(objects, **options)
    with a_writer(objects) as writer, pytest.raises(InvalidRequestError):
        writer.create_collection("docs", **options)
    assert not objects.objects


@given(producer=st.one_of(st.none(), st.text(max_size=300), st.text(alphabet="\x00\x1f\U0010ffff", min_size=100)))
def test_a_drop_is_small_whatever_the_name_of_its_producer(producer: str | None) -> None:
    objects = InMemoryObjectStore()
    with a_writer(objects, producer=producer) as writer:
        writer.drop_collection("docs")

    (drop,) = written(objects)
    assert drop.header.drop
    assert (producer or "").startswith(drop.header.producer or "")
    assert max(len(stored.body) for stored in objects.objects.values()) <= DROP_BYTES


def test_a_drop_takes_a_file_of_its_own_and_later_rows_may_have_another_shape(objects: InMemoryObjectStore) -> None:
    with a_writer(objects, configuration=SETTINGS, producer="me") as writer:
        writer.upsert("docs", ["a"], [[1, 0]])
        writer.drop_collection("docs")
        writer.upsert("docs", ["a"], [[1, 0, 0]])

    before, drop, after = written(objects)
    assert drop.header == DeltaHeader(format=2, drop=True, producer="me")
    assert [delta.dimension for delta in (before, drop, after)] == [2, None, 3]
