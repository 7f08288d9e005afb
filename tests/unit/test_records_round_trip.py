"""What records.py accepts, a real ChromaDB collection gives back unchanged."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, cast

import chromadb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.records import check_document, check_id, check_metadata

_NUMBERS = count()

texts = st.text(max_size=8)
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(texts, integers, floats, st.booleans())
lists = st.one_of(*(st.lists(kind, min_size=1, max_size=3) for kind in (texts, integers, floats, st.booleans())))
values = st.one_of(scalars, lists, st.none())
metadatas = st.dictionaries(texts, values, max_size=5)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromadb.Collection]:
    path: Path = tmp_path_factory.mktemp("round-trip")
    client = chromadb.PersistentClient(path)
    yield client.create_collection("round-trip", embedding_function=None)
    cast("Any", client).close()


@given(metadatas, st.one_of(st.none(), st.text(max_size=20)), st.text(max_size=8))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_accepted_is_read_back_as_it_was_written(
    collection: chromadb.Collection, metadata: dict[str, Any], document: str | None, name: str
) -> None:
    try:
        canonical = check_metadata(metadata)
        row_id = check_id(f"{name}{next(_NUMBERS)}")
        check_document(document)
    except CorruptDeltaError:
        return
    stored = json.loads(canonical) if canonical else {}
    upsert(collection, row_id, document, stored)

    found = collection.get(ids=[row_id], include=["metadatas", "documents"])

    assert found["ids"] == [row_id]
    assert found["documents"] == [document]
    assert found["metadatas"] is not None
    read = found["metadatas"][0] or {}
    assert set(read) == set(stored)
    assert all(same(read[key], value) for key, value in stored.items())


def upsert(collection: chromadb.Collection, row_id: str, document: str | None, metadata: dict[str, Any]) -> None:
    collection.upsert(
        ids=[row_id],
        embeddings=np.ones((1, 1), dtype=np.float32),
        documents=None if document is None else [document],
        metadatas=[metadata] if metadata else None,
    )


def same(found: object, written: object) -> bool:
    """Equal in type and value; of floats, ChromaDB's queue keeps all but the last two units in the last place."""
    if isinstance(found, list) and isinstance(written, list):
        return len(found) == len(written) and all(map(same, found, written))
    if isinstance(found, float) and isinstance(written, float):
        return math.isclose(found, written, rel_tol=1e-15, abs_tol=sys.float_info.min)
    return type(found) is type(written) and found == written
