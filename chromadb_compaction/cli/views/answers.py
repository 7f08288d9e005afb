"""Answers of the query function, and their tables for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import RenderableType
from rich.text import Text

from chromadb_compaction.cli.common.formatting import counted, one_line
from chromadb_compaction.cli.common.tables import Column, Listing

INCLUDE = ["documents", "metadatas", "distances"]
"""The fields that a question asks for."""


class Pending(BaseModel):
    """The pending deltas that an answer includes, and those that it left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    applied: int
    left: int


class _Result(BaseModel):
    """The source of an answer: a snapshot, and pending deltas unless the answer is from the snapshot alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    snapshot_id: str | None
    pending: Pending | None = None

    @property
    def source(self) -> str:
        """The snapshot and the pending deltas, for a person."""
        parts = [f"snapshot {self.snapshot_id}"] if self.snapshot_id else []
        if self.pending and (self.pending.applied or not parts):
            parts.append(counted(self.pending.applied, "pending delta"))
        left = self.pending.left if self.pending else 0
        more = (
            f"; {counted(left, 'pending delta')} not yet: more than a fresh read holds, or unreadable" if left else ""
        )
        return f"from {' and '.join(parts)}{more}"


class QueryResult(_Result):
    """ChromaDB's QueryResult, with one inner list per question, and the source of the answer."""

    ids: list[list[str]]
    distances: list[list[float | None]] | None = None
    documents: list[list[str | None]] | None = None
    metadatas: list[list[dict[str, Any] | None]] | None = None

    @property
    def count(self) -> int:
        """The number of records for the first question."""
        return len(self.ids[0])


class GetResult(_Result):
    """ChromaDB's GetResult, and the source of the answer."""

    ids: list[str]
    documents: list[str | None] | None = None
    metadatas: list[dict[str, Any] | None] | None = None

    @property
    def count(self) -> int:
        """The number of records."""
        return len(self.ids)


def render_answer(result: QueryResult | GetResult) -> Iterator[RenderableType]:
    """Render the records of an answer as a table, and its source below it. Nothing if there are none."""
    if result.count:
        yield _nearest(result) if isinstance(result, QueryResult) else _listed(result)
        yield Text(result.source, style="dim")


def _nearest(result: QueryResult) -> Listing:
    table = Listing(Column("Distance", "number"), Column("Id", "id"), Column("Document"))
    ids = result.ids[0]
    distances = result.distances[0] if result.distances else [None] * len(ids)
    documents = result.documents[0] if result.documents else [None] * len(ids)
    for id_, distance, document in zip(ids, distances, documents, strict=True):
        table.add_row("" if distance is None else f"{distance:.4f}", Text(id_, "bold"), Text(one_line(document, 200)))
    return table


def _listed(result: GetResult) -> Listing:
    table = Listing(Column("Id", "id"), Column("Document"), Column("Metadata"))
    nothing = [None] * len(result.ids)
    for id_, document, metadata in zip(
        result.ids, result.documents or nothing, result.metadatas or nothing, strict=True
    ):
        shown = json.dumps(metadata, ensure_ascii=False) if metadata else ""
        table.add_row(Text(id_, "bold"), Text(one_line(document, 200)), Text(one_line(shown, 200)))
    return table
