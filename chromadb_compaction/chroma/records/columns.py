"""Records in columns, as ChromaDB returns them: their ids, and the fields that were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from chromadb_compaction.chroma import client

if TYPE_CHECKING:
    from chromadb_compaction.chroma.client import GetResult, Include, QueryResult

Columns = dict[str, list[Any]]
"""The values of some records by the name of their field, `ids` among them. Each list has one value a record."""


def columns_of(result: Mapping[str, Any], names: Iterable[str]) -> Columns:
    """Return these fields of ChromaDB's result of a `get`."""
    return {name: list(result[name]) for name in names}


def columns_of_question(result: Mapping[str, Any], question: int, names: Iterable[str]) -> Columns:
    """Return these fields of one question in ChromaDB's result of a `query`."""
    return {name: list(result[name][question]) for name in names}


def empty(names: Iterable[str]) -> Columns:
    """Return no records."""
    return {name: [] for name in names}


def chosen(columns: Columns, at: Iterable[int]) -> Columns:
    """Return the records at these positions, in their order."""
    positions = list(at)
    return {name: [values[position] for position in positions] for name, values in columns.items()}


def joined(first: Columns, *others: Columns) -> Columns:
    """Return the records of all, which have the same fields."""
    if not others:
        return first
    return {name: list(chain(values, *(other[name] for other in others))) for name, values in first.items()}


def nearest_of(records: Columns, n_results: int) -> Columns:
    """Return the `n_results` nearest records, the nearest first. Those of one distance keep their order."""
    order = sorted(range(len(records["ids"])), key=records["distances"].__getitem__)
    return chosen(records, order[:n_results])


def get_result(columns: Columns, include: Sequence[str]) -> GetResult:
    """Return records in the form of ChromaDB's `get`."""
    return client.GetResult(
        ids=columns["ids"],
        embeddings=_matrix(columns["embeddings"]) if "embeddings" in include else None,
        documents=columns.get("documents"),
        uris=columns.get("uris"),
        data=None,
        metadatas=columns.get("metadatas"),
        included=cast("Include", list(include)),
    )


def query_result(questions: Sequence[Columns], include: Sequence[str]) -> QueryResult:
    """Return the records of each question in the form of ChromaDB's `query`."""

    def column(name: str) -> Any:  # noqa: ANN401 - as in ChromaDB's result
        return [each[name] for each in questions] if name in include else None

    return client.QueryResult(
        ids=[each["ids"] for each in questions],
        embeddings=[_matrix(each) for each in column("embeddings")] if "embeddings" in include else None,
        documents=column("documents"),
        uris=column("uris"),
        data=None,
        metadatas=column("metadatas"),
        distances=column("distances"),
        included=cast("Include", list(include)),
    )


def _matrix(rows: list[Any]) -> NDArray[Any]:
    return np.array(rows, dtype=np.float64)
