"""A DeltaWriter that embeds documents, and one that is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from chromadb.utils.embedding_functions import DefaultEmbeddingFunction

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.configuration import FunctionConfiguration
from chromadb_compaction.deltas.formats import Delta, read_delta
from chromadb_compaction.errors import InvalidRequestError, TransientStorageError
from chromadb_compaction.settings import MEBIBYTE
from tests.fakes.objects import InMemoryObjectStore


class Lengths:
    """ChromaDB's EmbeddingFunction in its own form: the length of a text, times a factor."""

    def __init__(self, factor: int = 1, api_key: str | None = None) -> None:
        self._config = {"factor": factor} | ({"api_key": api_key} if api_key else {})

    @staticmethod
    def name() -> str:
        return "lengths"

    def is_legacy(self) -> bool:
        return False

    def get_config(self) -> dict[str, Any]:
        return self._config

    def __call__(self, texts: list[str]) -> list[np.ndarray[Any, Any]]:
        return [np.array([len(text) * int(self._config["factor"]), 1], dtype=np.float32) for text in texts]


@pytest.fixture
def objects() -> InMemoryObjectStore:
    return InMemoryObjectStore()


def a_writer(objects: InMemoryObjectStore, **options: Any) -> DeltaWriter:
    return DeltaWriter(bucket="a-bucket", objects=objects, **options)


def only_delta(objects: InMemoryObjectStore) -> Delta:
    [(key, stored)] = objects.objects.items()
    return read_delta(key, stored.body, now=stored.modified, max_bytes=64 * MEBIBYTE)


def test_documents_are_embedded_by_an_embedding_function_of_chromadb(objects: InMemoryObjectStore) -> None:
    with a_writer(objects, embedding_function=Lengths(2)) as writer:
        writer.upsert("docs", ["a", "b"], documents=["x", "xyz"])
        writer.upsert("docs", ["c"], [[7, 7]], documents=["given"])

    delta = only_delta(objects)
    assert delta.table["embedding"].to_pylist() == [[2, 1], [6, 1], [7, 7]]
    assert delta.header.stated_function == FunctionConfiguration(name="lengths", config={"factor": 2})


def test_other_settings_are_stated_beside_the_function(objects: InMemoryObjectStore) -> None:
    options = {"configuration": {"hnsw": {"ef_search": 50}}, "metadata": {"owner": "ada"}}
    with a_writer(objects, embedding_function=Lengths(), **options) as writer:
        writer.upsert("docs", ["a"], documents=["x"])

    stated = only_delta(objects).header.collection
    assert stated is not None
    assert stated.configuration is not None
    assert (stated.configuration.hnsw, stated.metadata) != (None, None)
    assert stated.function is not None


@pytest.mark.parametrize(
    "options",
    [
        {"embedding_function": "wordllama"},
        {"configuration": {"embedding_function": {"type": "known", "name": "wordllama", "config": {}}}},
    ],
)
def test_documents_are_embedded_by_a_function_that_is_named(
    objects: InMemoryObjectStore, options: dict[str, Any]
) -> None:
    with a_writer(objects, **options) as writer:
        writer.upsert("docs", ["a"], documents=["run a shell command"])

    expected = embed(["run a shell command"], "wordllama")
    assert only_delta(objects).table["embedding"].to_pylist() == expected.tolist()


def test_a_function_of_the_real_chromadb_states_what_chromadb_stores(objects: InMemoryObjectStore) -> None:
    writer = a_writer(objects, embedding_function=DefaultEmbeddingFunction())
    writer.create_collection("docs")
    writer.close()

    assert only_delta(objects).header.stated_function == FunctionConfiguration(name="default", config={})


def test_a_function_without_a_name_embeds_and_is_not_stated(objects: InMemoryObjectStore) -> None:
    with a_writer(objects, embedding_function=lambda texts: [[len(text)] for text in texts]) as writer:
        writer.upsert("docs", ["a"], documents=["xy"])

    delta = only_delta(objects)
    assert delta.table["embedding"].to_pylist() == [[2]]
    assert delta.header.stated_function is None


def test_a_secret_in_the_function_is_refused(objects: InMemoryObjectStore) -> None:
    with pytest.raises(InvalidRequestError, match="api_key"):
        a_writer(objects, embedding_function=Lengths(api_key="sk-1"))


def test_two_functions_are_refused(objects: InMemoryObjectStore) -> None:
    configuration = {"embedding_function": {"type": "known", "name": "wordllama", "config": {}}}
    with pytest.raises(InvalidRequestError, match="states an embedding function too"):
        a_writer(objects, embedding_function=Lengths(), configuration=configuration)


@pytest.mark.parametrize(
    ("options", "documents", "reason"),
    [
        ({}, ["x"], "the writer has no embedding function"),
        ({"embedding_function": Lengths()}, None, "record 0"),
        ({"embedding_function": Lengths()}, ["x", None], "record 1"),
    ],
)
def test_a_record_with_neither_embedding_nor_document_is_refused(
    objects: InMemoryObjectStore, options: dict[str, Any], documents: list[str | None] | None, reason: str
) -> None:
    writer = a_writer(objects, **options)

    with pytest.raises(InvalidRequestError, match=reason):
        writer.upsert("docs", ["a", "b"], documents=documents)
    assert writer.flush() == []


CALLS: list[Callable[[DeltaWriter], object]] = [
    lambda writer: writer.upsert("docs", ["b"], [[1]]),
    lambda writer: writer.delete("docs", ["b"]),
    lambda writer: writer.create_collection("docs"),
    lambda writer: writer.drop_collection("docs"),
    lambda writer: writer.flush(),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_writer_has_written_everything_and_refuses_further_calls(
    objects: InMemoryObjectStore, call: Callable[[DeltaWriter], object]
) -> None:
    writer = a_writer(objects)
    writer.upsert("docs", ["a"], [[1]])
    writer.close()
    writer.close()

    with pytest.raises(InvalidRequestError, match="this DeltaWriter is closed; make another one"):
        call(writer)
    assert writer.written == list(objects.objects)


def test_the_end_of_a_with_block_closes_the_writer(objects: InMemoryObjectStore) -> None:
    with a_writer(objects) as writer:
        writer.upsert("docs", ["a"], [[1]])

    with pytest.raises(InvalidRequestError, match="closed"):
        writer.delete("docs", ["a"])
    assert len(objects.objects) == 1


def test_a_close_that_fails_can_be_repeated(objects: InMemoryObjectStore) -> None:
    def busy(call: str, key: str) -> None:
        raise TransientStorageError(f"{call} {key}: S3 is busy")

    writer = a_writer(objects, check_published=False)
    writer.upsert("docs", ["a"], [[1]])
    objects.before = busy
    with pytest.raises(TransientStorageError):
        writer.close()
    objects.before = lambda _call, _key: None

    writer.close()

    assert len(objects.objects) == 1
