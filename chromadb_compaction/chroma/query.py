"""Asking one open collection for records, by id, by filter, or by nearness to some vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from chromadb_compaction.chroma.client import (
    Collection,
    GetResult,
    Include,
    InvalidArgumentError,
    QueryResult,
    Where,
    WhereDocument,
)
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.errors import InvalidRequestError


class Filters(NamedTuple):
    """Which records count, in ChromaDB's words; None: all."""

    ids: list[str] | None = None
    where: dict[str, Any] | None = None
    where_document: dict[str, Any] | None = None


def nearest(
    collection: Collection, vectors: Vector, *, n_results: int, filters: Filters, include: list[str]
) -> QueryResult:
    """Return ChromaDB's answer, one list of at most `n_results` per row of `vectors`.

    Raises InvalidRequestError with ChromaDB's own words if it refuses a filter.
    """
    with _refusals_translated():
        return collection.query(
            query_embeddings=vectors,
            n_results=n_results,
            ids=_existing(collection, filters.ids),
            where=cast("Where | None", filters.where),
            where_document=cast("WhereDocument | None", filters.where_document),
            include=cast("Include", include),
        )


def matching(
    collection: Collection, filters: Filters, *, limit: int | None, offset: int | None, include: list[str]
) -> GetResult:
    """Return the records that pass the filters, in ChromaDB's order, which stays the same within a snapshot.

    Raises InvalidRequestError as `nearest` does.
    """
    with _refusals_translated():
        return collection.get(
            ids=None if filters.ids is None else list(dict.fromkeys(filters.ids)),
            where=cast("Where | None", filters.where),
            where_document=cast("WhereDocument | None", filters.where_document),
            limit=limit,
            offset=offset,
            include=cast("Include", include),
        )


def _existing(collection: Collection, ids: list[str] | None) -> list[str] | None:
    """Return those ids that there are: ChromaDB's query ends in an internal error over one that is not."""
    if ids is None:
        return None
    return collection.get(ids=list(dict.fromkeys(ids)), include=[])["ids"]


@contextmanager
def _refusals_translated() -> Iterator[None]:
    try:
        yield
    except (InvalidArgumentError, ValueError, OverflowError) as error:
        # It checks filters partly in Python (ValueError), partly in Rust; a number beyond 64 bits overflows.
        raise InvalidRequestError(f"ChromaDB refuses the query: {' '.join(str(error).split())}") from error
