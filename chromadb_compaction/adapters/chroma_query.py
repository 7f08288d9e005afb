"""Asking one open collection for the records nearest to some vectors."""

from __future__ import annotations

from typing import Any, cast

from chromadb_compaction.adapters.chroma import (
    Collection,
    Include,
    InvalidArgumentError,
    QueryResult,
    Where,
    WhereDocument,
)
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.records import Vector


def nearest(
    collection: Collection,
    vectors: Vector,
    *,
    n_results: int,
    where: dict[str, Any] | None,
    where_document: dict[str, Any] | None,
    include: list[str],
) -> QueryResult:
    """Return ChromaDB's answer, one list of at most `n_results` per row of `vectors`.

    Raises InvalidRequestError with ChromaDB's own words if it refuses a filter.
    """
    try:
        return collection.query(
            query_embeddings=vectors,
            n_results=n_results,
            where=cast("Where | None", where),
            where_document=cast("WhereDocument | None", where_document),
            include=cast("Include", include),
        )
    except (InvalidArgumentError, ValueError) as error:
        # It checks filters partly in Python (ValueError), partly in Rust.
        raise InvalidRequestError(f"ChromaDB refuses the query: {' '.join(str(error).split())}") from error
