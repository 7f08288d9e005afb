"""A writer asks the published snapshot first, and refuses what contradicts it before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chromadb_compaction import layout
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.configuration import FunctionConfiguration, KeptSettings
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError, TransientStorageError
from tests.builders import a_drop, a_jsonl_delta
from tests.fakes.published import point_to, put_snapshot
from tests.fakes.services import Fakes, new_fakes

PUBLISHED: dict[str, Any] = {
    "dimension": 2,
    "space": "cosine",
    "embedding_function": "openai",
    "settings": KeptSettings(
        max_neighbors=48, function=FunctionConfiguration(name="openai", config={"model_name": "small"})
    ),
}


@pytest.fixture
def fakes() -> Fakes:
    made = new_fakes()
    publish(made, 1, **PUBLISHED)
    return made


def publish(fakes: Fakes, sequence: int, **described: Any) -> None:
    put_snapshot(fakes, sequence, **described)
    point_to(fakes, sequence)


def a_writer(fakes: Fakes, **options: Any) -> DeltaWriter:
    return DeltaWriter(fakes.settings, objects=fakes.objects, **options)


def pending(fakes: Fakes) -> set[str]:
    return fakes.objects.keys(layout.DELTA_PREFIX)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"space": "l2"}, "the distance l2, but the published collection docs has cosine"),
        ({"embedding_function": "default"}, "function default, but the published collection docs has openai"),
        ({"configuration": {"hnsw": {"max_neighbors": 16}}}, "max_neighbors 16, but .* has 48"),
        ({"configuration": {"hnsw": {"ef_construction": 200}}}, "ef_construction 200, but .* has 100"),
        (
            {"configuration": {"embedding_function": {"name": "openai", "config": {"model_name": "large"}}}},
            'large.*, but .* has openai {"model_name": "small"}',
        ),
    ],
)
def test_a_contradiction_is_an_error_of_the_first_call(fakes: Fakes, options: dict[str, Any], problem: str) -> None:
    with a_writer(fakes, **options) as writer:
        with pytest.raises(InvalidRequestError, match=problem):
            writer.upsert("docs", ["a"], [[1, 0]])
        with pytest.raises(InvalidRequestError, match=problem):
            writer.delete("docs", ["a"])
        with pytest.raises(InvalidRequestError, match=problem):
            writer.create_collection("docs", metadata={})

    assert pending(fakes) == set()


def test_another_dimension_is_an_error_and_the_other_rows_are_written(fakes: Fakes) -> None:
    with a_writer(fakes) as writer:
        writer.upsert("docs", ["a"], [[1, 0]])
        with pytest.raises(InvalidRequestError, match="3 dimensions, but the published collection docs has 2; nothing"):
            writer.upsert("docs", ["b"], [[1, 0, 0]])
        writer.delete("docs", ["c"])

    assert len(pending(fakes)) == 1


def test_settings_that_may_change_are_not_compared(fakes: Fakes) -> None:
    with a_writer(fakes, configuration={"hnsw": {"ef_search": 7}}, metadata={"owner": "b"}) as writer:
        writer.create_collection("docs")

    assert len(pending(fakes)) == 1


def test_each_collection_is_read_once(fakes: Fakes) -> None:
    with a_writer(fakes) as writer:
        for collection in ("docs", "other", "docs", "other"):
            writer.upsert(collection, ["a"], [[1, 0]])

    assert [call for call, key in fakes.objects.calls if key == layout.pointer_key()] == ["put", "get", "get"]


def test_a_writer_that_does_not_check_reads_nothing(fakes: Fakes) -> None:
    with a_writer(fakes, check_published=False) as writer:
        writer.upsert("docs", ["a"], [[1, 0, 0]])

    assert "get" not in [call for call, _ in fakes.objects.calls]
    assert len(pending(fakes)) == 1


@pytest.mark.parametrize("error", [ConfigurationError("denied"), TransientStorageError("slow down")])
def test_a_snapshot_that_cannot_be_read_is_no_error(fakes: Fakes, error: Exception) -> None:
    def fail(call: str, _key: str) -> None:
        if call == "get":
            raise error

    fakes.objects.before = fail
    with a_writer(fakes) as writer:
        writer.upsert("docs", ["a"], [[1, 0, 0]])

    assert len(pending(fakes)) == 1


def test_a_damaged_pointer_is_no_error(fakes: Fakes) -> None:
    fakes.objects.put(layout.pointer_key(), b"{")

    with a_writer(fakes) as writer:
        writer.upsert("docs", ["a"], [[1, 0, 0]])

    assert len(pending(fakes)) == 1


def test_it_is_read_again_before_anything_is_refused(fakes: Fakes) -> None:
    with a_writer(fakes) as writer:
        writer.delete("docs", ["x"])
        publish(fakes, 2, dimension=3)
        writer.upsert("docs", ["a"], [[1, 0, 0]])

    assert len(pending(fakes)) == 1


@pytest.mark.parametrize(
    ("prepare", "refused"),
    [
        (lambda fakes: a_drop().put_into(fakes.objects), False),
        (lambda fakes: a_drop(collection="other").put_into(fakes.objects), True),
        (lambda fakes: a_jsonl_delta([{"id": "a", "op": "delete"}]).put_into(fakes.objects), True),
        (lambda fakes: a_drop({"format": 1}).put_into(fakes.objects), True),
    ],
    ids=["drop", "drop-of-another", "delete", "invalid-drop"],
)
def test_a_pending_drop_frees_the_shape(fakes: Fakes, prepare: Callable[[Fakes], object], *, refused: bool) -> None:
    prepare(fakes)
    writer = a_writer(fakes)

    if refused:
        with pytest.raises(InvalidRequestError, match="3 dimensions"):
            writer.upsert("docs", ["a"], [[1, 0, 0]])
    else:
        writer.upsert("docs", ["a"], [[1, 0, 0]])


def test_a_writers_own_drop_frees_the_shape(fakes: Fakes) -> None:
    with a_writer(fakes, space="cosine") as writer:
        writer.upsert("docs", ["a"], [[1, 0]])
        writer.drop_collection("docs")
        writer.upsert("docs", ["a"], [[1, 0, 0]])

    assert len(pending(fakes)) == 3
