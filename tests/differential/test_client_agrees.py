"""ChromaDB's own client and ours do the same to a collection, call by call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import chromadb
import hypothesis.strategies as st
import numpy as np
import pytest
from chromadb.api import ClientAPI
from chromadb.config import Settings
from chromadb.errors import ChromaError
from hypothesis import given, settings

from tests.fakes.bucket_client import bucket_in_memory, client_of

EVERYTHING: Any = ["embeddings", "documents", "metadatas", "uris"]
IDS = ["a", "b", "c", "d"]

ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True)
vectors = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=2)
documents = st.sampled_from(["red fox", "blue fox", "green hen"])
# A value of None removes a key. ChromaDB refuses it in `add`.
values = st.one_of(st.integers(-2, 2), st.sampled_from(["x", "y"]), st.booleans(), st.sampled_from([0.5, -1.5]))
new_metadata = st.dictionaries(st.sampled_from("xyz"), values, min_size=1, max_size=3)
changed_metadata = st.dictionaries(st.sampled_from("xyz"), st.one_of(values, st.none()), min_size=1, max_size=3)
filters = st.one_of(
    st.fixed_dictionaries({"where": st.fixed_dictionaries({"x": st.integers(-2, 2)})}),
    st.fixed_dictionaries({"where": st.fixed_dictionaries({"y": st.fixed_dictionaries({"$ne": st.just("x")})})}),
    st.fixed_dictionaries({"where_document": st.fixed_dictionaries({"$contains": st.just("fox")})}),
)

Call = tuple[str, dict[str, Any]]


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Return one call that writes, with its arguments."""
    name = draw(st.sampled_from(["add", "upsert", "update", "delete", "delete_where"]))
    if name == "delete":
        return "delete", {"ids": draw(ids)}
    if name == "delete_where":
        return "delete", draw(filters)
    chosen = draw(ids)
    columns: dict[str, Any] = {"ids": chosen}
    if name != "update" or draw(st.booleans()):
        columns["embeddings"] = draw(st.lists(vectors, min_size=len(chosen), max_size=len(chosen)))
        if draw(st.booleans()):
            columns["documents"] = draw(st.lists(documents, min_size=len(chosen), max_size=len(chosen)))
    if draw(st.booleans()):
        of_metadata = st.one_of(st.none(), changed_metadata if name == "update" else new_metadata)
        columns["metadatas"] = draw(st.lists(of_metadata, min_size=len(chosen), max_size=len(chosen)))
    if draw(st.booleans()):
        columns["uris"] = [f"s3://{each}" for each in chosen]
    return name, columns


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientAPI]:
    settings = Settings(anonymized_telemetry=False)
    with chromadb.PersistentClient(tmp_path_factory.mktemp("chroma"), settings=settings) as client:  # type: ignore[attr-defined] # ChromaDB's declared type lacks `with`
        yield client


@pytest.fixture(scope="module")
def ours() -> Iterator[ClientAPI]:
    with client_of(bucket_in_memory()) as client:
        yield client


HISTORIES = st.lists(calls(), min_size=1, max_size=8)


@settings(max_examples=60)
@given(history=HISTORIES)
def test_a_history_of_calls_leaves_the_same_records(theirs: ClientAPI, ours: ClientAPI, history: list[Call]) -> None:
    check(theirs, ours, history)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=2000)
@given(history=HISTORIES)
def test_very_many_histories_leave_the_same_records(theirs: ClientAPI, ours: ClientAPI, history: list[Call]) -> None:
    check(theirs, ours, history)


def check(theirs: ClientAPI, ours: ClientAPI, history: list[Call]) -> None:
    """Make the same calls through both clients, and compare each result and the records left."""
    name = f"c-{uuid4().hex}"
    both = [client.create_collection(name, embedding_function=None) for client in (theirs, ours)]
    for call, drawn in history:
        arguments = _without_lost_updates(both[0], drawn) if call == "update" else drawn
        results = [_outcome(getattr(collection, call), arguments) for collection in both]
        assert results[0] == results[1], (call, arguments)
    expected, found = (_records(collection) for collection in both)
    assert found == expected
    assert both[1].count() == len(expected)
    for client in (theirs, ours):
        client.delete_collection(name)


def _without_lost_updates(collection: chromadb.Collection, arguments: dict[str, Any]) -> dict[str, Any]:
    """Rename the ids that the collection lacks to ids that are never added.

    ChromaDB 1.5.9 ignores an update of a missing id, but its index keeps the vector: a later `add` of the id then
    returns the vector of the update.
    """
    held = set(collection.get(ids=arguments["ids"], include=[])["ids"])
    return arguments | {"ids": [each if each in held else f"never-{each}" for each in arguments["ids"]]}


def _outcome(call: Callable[..., Any], arguments: dict[str, Any]) -> object:
    """Return the result of a call, or the kind of its error."""
    try:
        return call(**arguments)
    except (ChromaError, ValueError, TypeError) as error:
        return type(error).__name__


def _records(collection: chromadb.Collection) -> dict[str, object]:
    found = collection.get(include=EVERYTHING)
    columns = [np.asarray(found["embeddings"]).tolist(), found["documents"], found["metadatas"], found["uris"]]
    rows = zip(*columns, strict=True) if found["ids"] else []
    return {
        row_id: (vector, document, metadata or None, uri)
        for row_id, (vector, document, metadata, uri) in zip(found["ids"], rows, strict=True)
    }
