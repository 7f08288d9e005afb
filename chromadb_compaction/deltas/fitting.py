"""The rule for the shape of a collection: the first statement decides what is open, and no later one contradicts it."""

from __future__ import annotations

from typing import Final, NamedTuple

from chromadb_compaction.configuration import DEFAULT_INDEX, DeltaVersion
from chromadb_compaction.deltas.header import DeltaHeader
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.rows.shapes import StoredShape

_UNNAMED: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"


class Statement(NamedTuple):
    """The facts that a delta states of its collection.

    Attributes:
        header: Its header.
        dimension: The length of its embeddings. None without upserts, or if it is unknown.
        version: The version of the delta. A delta that has no name yet is newer than any.
    """

    header: DeltaHeader
    dimension: int | None
    version: DeltaVersion = _UNNAMED


def decided_shape(statement: Statement, shape: StoredShape) -> StoredShape:
    """Return the shape if this statement decides what it lacks: everything, or only the dimension."""
    function = statement.header.stated_function
    stated = {
        "space": statement.header.stated_space or "l2",
        "embedding_function": function.name if function else None,
        "settings": statement.header.settings(statement.version),
    }
    decided = {} if shape.is_stated else stated
    return shape.model_copy(update={"dimension": shape.dimension or statement.dimension, **decided})


def check_fit(statement: Statement, shape: StoredShape, *, owner: str | None = None) -> None:
    """Raise CorruptDeltaError unless a delta fits the collection: its header, and every row.

    `owner` is the collection's name in the message. None: its own, in quotes.
    """
    name = owner or f"the collection {shape.collection!r}"
    if None not in (statement.dimension, shape.dimension) and statement.dimension != shape.dimension:
        raise CorruptDeltaError(
            f"its embeddings have {statement.dimension} dimensions, but {name} has {shape.dimension}",
            next_step="embed with the model of the collection, or write to another collection",
        )
    if shape.is_stated:
        _check_header(statement.header, shape, name)


def _check_header(header: DeltaHeader, shape: StoredShape, name: str) -> None:
    """Raise CorruptDeltaError if the header states another distance, index or embedding function."""
    stated, kept = header.settings(_UNNAMED), shape.settings
    for what, said, known in (
        ("distance", header.stated_space, shape.space),
        ("ef_construction", stated.ef_construction, kept.ef_construction or DEFAULT_INDEX.ef_construction),
        ("max_neighbors", stated.max_neighbors, kept.max_neighbors or DEFAULT_INDEX.max_neighbors),
    ):
        if said not in {None, known}:
            raise _contradiction(name, what, said, known)
    if stated.function and kept.function and not stated.function.agrees_with(kept.function):
        raise _contradiction(name, "embedding function", stated.function.text, kept.function.text)


def _contradiction(name: str, what: str, stated: object, known: object) -> CorruptDeltaError:
    return CorruptDeltaError(
        f"it states the {what} {stated}, but {name} has {known}",
        next_step="state nothing, or write to another collection: this is fixed when a collection is made",
    )
