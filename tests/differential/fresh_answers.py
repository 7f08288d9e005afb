"""Compare the answers of two reads of one collection: before and after a compaction of its pending deltas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.pending.collection import FreshCollection

FIELDS = ["embeddings", "documents", "metadatas", "uris"]
RELATIVE, ABSOLUTE = 1e-4, 1e-5


def assert_equal_reads(found: FreshCollection, expected: FreshCollection, questions: Vector) -> None:
    """Compare counts, properties, pages, reads by id, and queries without filters."""
    assert found.count() == expected.count()
    assert found.description == expected.description
    assert_equal_gets(found, expected, Filters(), include=FIELDS)
    ids = expected.get(Filters(), limit=None, offset=None, include=[])["ids"]
    assert_equal_gets(found, expected, Filters(ids=[*ids[::2], "never written", *ids[:2]]), include=FIELDS)
    for limit, offset in ((1, None), (3, 2), (None, 1), (2, len(ids)), (len(ids) + 1, 0), (0, 0)):
        assert_equal_gets(found, expected, Filters(), limit=limit, offset=offset, include=["documents"])
    for n_results in (1, 3, len(ids) + 5):
        assert_equal_queries(found, expected, questions, Filters(), n_results=n_results)
    assert_equal_queries(found, expected, questions, Filters(ids=ids[::2] or ["none"]), n_results=2)


def assert_equal_gets(
    found: FreshCollection,
    expected: FreshCollection,
    filters: Filters,
    *,
    limit: int | None = None,
    offset: int | None = None,
    include: list[str],
) -> bool:
    """Compare everything in two answers, or that both refuse the filters. Return whether they did not."""
    one, other = (_get(each, filters, limit, offset, include) for each in (found, expected))
    assert (one is None) == (other is None), filters
    if one is None or other is None:
        return False
    assert one.keys() == other.keys()
    for name in one.keys() - {"embeddings"}:
        assert one[name] == other[name], (filters, limit, offset, name)
    assert _types(one["metadatas"]) == _types(other["metadatas"])
    if "embeddings" in include:
        assert one["embeddings"].shape == other["embeddings"].shape
        assert np.allclose(one["embeddings"], other["embeddings"], rtol=1e-6, atol=1e-6)
    return True


def assert_equal_queries(
    found: FreshCollection, expected: FreshCollection, questions: Vector, filters: Filters, *, n_results: int
) -> None:
    """Compare two answers. Records of one distance may come in any order, and any of them may come last."""
    include = [*FIELDS, "distances"]
    one: Any = found.query(questions, n_results=n_results, filters=filters, include=include)
    other: Any = expected.query(questions, n_results=n_results, filters=filters, include=include)
    assert one.keys() == other.keys()
    for question in range(len(questions)):
        distances = np.array(other["distances"][question])
        assert np.shape(one["distances"][question]) == distances.shape, (filters, n_results)
        assert np.allclose(one["distances"][question], distances, RELATIVE, ABSOLUTE)
        same = _records(other, question)
        for row_id, record in _records(one, question).items():
            if row_id in same:
                assert record == same[row_id]
        for at in np.flatnonzero(_is_alone(distances)).tolist():
            assert one["ids"][question][at] == other["ids"][question][at], filters


def _get(
    collection: FreshCollection, filters: Filters, limit: int | None, offset: int | None, include: list[str]
) -> Any:
    try:
        return collection.get(filters, limit=limit, offset=offset, include=include)
    except InvalidRequestError:
        return None


def _records(result: Any, question: int) -> dict[str, Any]:
    names = ("documents", "metadatas", "uris")
    return dict(
        zip(result["ids"][question], zip(*(result[name][question] for name in names), strict=True), strict=True)
    )


def _is_alone(distances: Any) -> Any:
    """Return, per record, whether its neighbours have other distances. The last one may have one that was cut off."""
    near = np.isclose(distances[1:], distances[:-1], RELATIVE, ABSOLUTE)
    return ~np.concatenate([[False], near]) & ~np.concatenate([near, [True]]) if len(distances) else distances


def _types(metadatas: Iterable[Mapping[str, Any] | None] | None) -> list[Any]:
    return [each and {key: type(value) for key, value in each.items()} for each in metadatas or []]
