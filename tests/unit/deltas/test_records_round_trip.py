"""Every row that records.py accepts comes back unchanged from a real ChromaDB collection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any, get_args

import chromadb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chromadb_compaction.chroma.verification import differing, same_metadata
from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.records import (
    check_document,
    check_embedding,
    check_id,
    check_metadata,
)
from chromadb_compaction.errors import CorruptDeltaError

_NUMBERS = count()

texts = st.text(max_size=8)
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(texts, integers, floats, st.booleans())
lists = st.one_of(*(st.lists(kind, min_size=1, max_size=3) for kind in (texts, integers, floats, st.booleans())))
values = st.one_of(scalars, lists, st.none())
components = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = st.lists(components, min_size=3, max_size=3)
SPACES: tuple[Space, ...] = get_args(Space)
metadatas = st.dictionaries(texts, values, max_size=5)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    client: Any = chromadb.PersistentClient(tmp_path_factory.mktemp("round-trip"))
    yield client
    client.close()


@pytest.fixture(scope="module")
def collection(client: Any) -> chromadb.Collection:
    made: chromadb.Collection = client.create_collection("round-trip", embedding_function=None)
    return made


@pytest.fixture(scope="module")
def by_space(client: Any) -> dict[Space, chromadb.Collection]:
    """One collection a space, of three dimensions, flushed so often that reads also come from the index."""
    return {
        space: client.create_collection(
            f"vectors-{space}",
            embedding_function=None,
            configuration={"hnsw": {"space": space, "sync_threshold": 10, "batch_size": 5}},
        )
        for space in SPACES
    }


@given(metadatas, st.one_of(st.none(), st.text(max_size=20)), st.text(max_size=8))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_an_accepted_row_is_read_back_as_it_was_written(
    collection: chromadb.Collection, metadata: dict[str, Any], document: str | None, name: str
) -> None:
    try:
        canonical = check_metadata(metadata)
        row_id = check_id(f"{name}{next(_NUMBERS)}")
        check_document(document)
    except CorruptDeltaError:
        return
    upsert(collection, row_id, document, json.loads(canonical) if canonical else {})

    found = collection.get(ids=[row_id], include=["metadatas", "documents"])

    assert found["ids"] == [row_id]
    assert found["documents"] == [document]
    assert found["metadatas"] is not None
    assert same_metadata(found["metadatas"][0], canonical)


def upsert(collection: chromadb.Collection, row_id: str, document: str | None, metadata: dict[str, Any]) -> None:
    collection.upsert(
        ids=[row_id],
        embeddings=np.ones((1, 1), dtype=np.float32),
        documents=None if document is None else [document],
        metadatas=[metadata] if metadata else None,
    )


@given(vectors, st.sampled_from(SPACES))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_an_accepted_vector_passes_the_verification_of_a_fold(
    by_space: dict[Space, chromadb.Collection], vector: list[float], space: Space
) -> None:
    row_id = str(next(_NUMBERS))
    try:
        written = check_embedding(vector).reshape(1, -1)
    except CorruptDeltaError:
        return
    by_space[space].upsert(ids=[row_id], embeddings=written)

    found = np.asarray(by_space[space].get(ids=[row_id], include=["embeddings"])["embeddings"], dtype=np.float32)

    assert not differing(found, written, space).any()
