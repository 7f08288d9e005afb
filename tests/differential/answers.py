"""Compare two directories by the answers of plain ChromaDB to every kind of read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import orjson
from chromadb.config import Settings

from chromadb_compaction.chroma.verification import differing, same_metadata
from chromadb_compaction.configuration import Space
from tests.differential.histories import DOCUMENTS, History

NAME = "docs"
FRAGMENTS = ("fox", "FOX", "quick", "ü", "日本語", "x", "\0aft", "🦊", "%_\\", "ﬁ", "nothing like it")
PATTERNS = ("fox", "^the", "(?i)QUICK", "b.own", "日本.*です", "[0-9]+", "o{2}", "fox$")

# Made once, because making them takes as long as opening a directory.
_SETTINGS = Settings(anonymized_telemetry=False)


@contextmanager
def plain_collection(directory: Path) -> Iterator[Any]:
    """Open the collection with plain chromadb."""
    client: Any = chromadb.PersistentClient(path=directory, settings=_SETTINGS.model_copy())
    with closing(client):
        yield client.get_collection(NAME, embedding_function=None)


def metadata_filters(history: History) -> Iterator[dict[str, Any]]:
    """Yield filters with every operator, on values that some record of the history has."""
    values = {
        (key, orjson.dumps(item)): (key, item)
        for fold in history.folds
        for each in fold.values()
        if each is not None
        for key, value in (each.metadata or {}).items()
        for item in (value if isinstance(value, list) else [value])
        if item is not None and key != "wild"
    }
    for key, value in list(values.values())[:6]:
        for operator in ("$eq", "$ne", "$contains", "$not_contains"):
            yield {key: {operator: value}}
        for operator in ("$in", "$nin"):
            yield {key: {operator: [value]}}
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            for operator in ("$gt", "$gte", "$lt", "$lte"):
                yield {key: {operator: value}}
        yield {"$or": [{key: {"$eq": value}}, {"s": {"$ne": "x"}}]}
        yield {"$and": [{key: {"$ne": value}}, {"n": {"$lt": 1}}]}


def document_filters() -> Iterator[dict[str, Any]]:
    """Yield filters on documents."""
    for fragment in FRAGMENTS:
        yield {"$contains": fragment}
        yield {"$not_contains": fragment}
    for pattern in PATTERNS:
        yield {"$regex": pattern}
        yield {"$not_regex": pattern}
    yield {"$or": [{"$contains": DOCUMENTS[2]}, {"$not_contains": "fox"}]}


def assert_equal_answers(expected: Any, found: Any, history: History) -> None:
    """Compare the answers of two collections to everything except nearest-neighbour queries."""
    assert found.count() == expected.count()
    assert found.peek(limit=3)["ids"] == expected.peek(limit=3)["ids"]
    assert_equal_records(expected, found, history.space)
    for where in metadata_filters(history):
        assert found.get(where=where, include=[])["ids"] == expected.get(where=where, include=[])["ids"], where
    for where in document_filters():
        answers = [each.get(where_document=where, include=[])["ids"] for each in (expected, found)]
        assert answers[1] == answers[0], where


def assert_equal_records(expected: Any, found: Any, space: Space) -> None:
    """Compare every record, and the order of the records."""
    want, got = (each.get(include=["embeddings", "documents", "metadatas", "uris"]) for each in (expected, found))
    assert got["ids"] == want["ids"]
    assert got["documents"] == want["documents"]
    assert got["uris"] == want["uris"]
    for one, other in zip(got["metadatas"], want["metadatas"], strict=True):
        assert same_metadata(one, orjson.dumps(other, option=orjson.OPT_SORT_KEYS).decode() if other else None)
    if want["ids"]:
        read, written = (np.asarray(each["embeddings"], dtype=np.float32) for each in (got, want))
        assert not differing(read, written, space).any()


def assert_nearest(collection: Any, vectors: dict[str, Any], query: Any, space: Space) -> None:
    """Compare a query's distances with exact search. Ids are not compared, because ties come in any order."""
    count = min(4, len(vectors))
    found = collection.query(query_embeddings=[query], n_results=4, include=["distances"])
    exact = sorted(_distance(query, vector, space) for vector in vectors.values())[:count]
    assert len(found["ids"][0]) == count
    assert np.allclose(found["distances"][0], exact, rtol=1e-4, atol=1e-4)


def _distance(one: Any, other: Any, space: Space) -> float:
    one, other = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if space == "l2":
        return float(((one - other) ** 2).sum())
    if space == "cosine":
        lengths = [max(float(np.linalg.norm(each)), 1e-30) for each in (one, other)]
        return float(1 - one @ other / (lengths[0] * lengths[1]))
    return float(1 - one @ other)
