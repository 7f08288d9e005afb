"""Read records of one open collection by id, by filter, or by distance to vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from chromadb_compaction.chroma import client
from chromadb_compaction.chroma.client import OpenCollection
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.errors import InvalidRequestError

if TYPE_CHECKING:
    from chromadb_compaction.chroma.client import GetResult, Include, QueryResult, Where, WhereDocument

_REGEX_FAILED = "(code: 1043)"
"""SQLite's code for a function that failed. The only one in a query is ChromaDB's, for regular expressions."""


class Filters(NamedTuple):
    """ChromaDB's filters of a read: a record must pass all of them. None: no filter."""

    ids: list[str] | None = None
    where: dict[str, Any] | None = None
    where_document: dict[str, Any] | None = None


def nearest(
    collection: OpenCollection, vectors: Vector, *, n_results: int, filters: Filters, include: list[str]
) -> QueryResult:
    """Return ChromaDB's result: one list of at most `n_results` records per row of `vectors`.

    Raises InvalidRequestError with ChromaDB's message if it refuses a filter.
    """
    with _query_errors_translated():
        return collection.query(
            query_embeddings=vectors,
            n_results=n_results,
            ids=_existing(collection, filters.ids),
            where=cast("Where | None", filters.where),
            where_document=cast("WhereDocument | None", filters.where_document),
            include=cast("Include", include),
        )


def matching(
    collection: OpenCollection, filters: Filters, *, limit: int | None, offset: int | None, include: list[str]
) -> GetResult:
    """Return the records that pass the filters, in ChromaDB's order, which is stable within a snapshot.

    Raises InvalidRequestError as `nearest` does.
    """
    with _query_errors_translated():
        return collection.get(
            ids=None if filters.ids is None else list(dict.fromkeys(filters.ids)),
            where=cast("Where | None", filters.where),
            where_document=cast("WhereDocument | None", filters.where_document),
            limit=limit,
            offset=offset,
            include=cast("Include", include),
        )


def _existing(collection: OpenCollection, ids: list[str] | None) -> list[str] | None:
    """Return the ids that exist: ChromaDB's query fails with an internal error on an id that does not."""
    if ids is None:
        return None
    return collection.get(ids=list(dict.fromkeys(ids)), include=[])["ids"]


@contextmanager
def _query_errors_translated() -> Iterator[None]:
    try:
        yield
    except (client.InvalidArgumentError, ValueError, OverflowError) as error:
        # ChromaDB checks filters partly in Python (ValueError), partly in Rust. A number beyond 64 bits overflows.
        raise InvalidRequestError(f"ChromaDB refuses the query: {' '.join(str(error).split())}") from error
    except client.InternalError as error:
        if _REGEX_FAILED not in str(error):
            raise
        raise InvalidRequestError(
            "ChromaDB cannot run a regular expression: compiled, it is too large",
            next_step="repeat less, or use shorter character classes",
        ) from error
