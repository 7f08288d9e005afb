"""The checks of arguments behind the interface, which programs in other languages reach without ChromaDB's own."""

from __future__ import annotations

from typing import Any

import pytest
from chromadb.errors import ChromaError

from chromadb_compaction.client.chroma_api import call_checks as check

GOOD: dict[str, Any] = {
    "ids": ["a"],
    "embeddings": [[1, 2]],
    "metadatas": None,
    "documents": None,
    "uris": None,
    "dimension": 2,
    "needs_vectors": True,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [""]}, "Empty ID"),
        ({"embeddings": None}, "embeddings are missing"),
        ({"embeddings": [[1, 2], [3, 4]]}, "Inconsistent number of IDs"),
        ({"documents": ["a", "b"]}, "Inconsistent number of IDs"),
        ({"embeddings": [[1, 2, 3]]}, "dimension of 2, got 3"),
        ({"ids": ["a", "b"], "embeddings": [[1, 2], [3]]}, "Inconsistent dimensions"),
        ({"embeddings": [[]]}, "at least 1 dimension"),
        ({"embeddings": [[1, float("nan")]]}, "NaN or Infinity"),
        ({"embeddings": [[1, 1e300]]}, "NaN or Infinity"),
        ({"embeddings": [["one", "two"]]}, "not a list of numbers"),
        ({"embeddings": [[[1, 2]]]}, "axes"),
    ],
)
def test_invalid_records_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ChromaError, match=message):
        check.records_of(**{**GOOD, **change})


def test_too_many_records_are_refused() -> None:
    with pytest.raises(ValueError, match="exceeds maximum batch size"):
        check.records_of(**{**GOOD, "ids": ["a"] * (check.MAX_BATCH + 1)})


def test_an_update_may_leave_out_embeddings() -> None:
    (record,) = check.records_of(**{**GOOD, "embeddings": None, "documents": ["new"], "needs_vectors": False})

    assert (record.id, record.vector, record.document) == ("a", None, "new")


@pytest.mark.parametrize("name", ["a", "a b c", "a..b", "1.2.3.4", "x" * 300])
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(ChromaError, match="Expected a name"):
        check.check_name(name)


def test_negative_pages_and_unknown_columns_are_refused() -> None:
    for limit, offset in ((-1, None), (None, -1)):
        with pytest.raises(ChromaError, match="negative"):
            check.check_page(limit, offset)
    with pytest.raises(ChromaError, match="Invalid include"):
        check.check_included(["nothing"])
