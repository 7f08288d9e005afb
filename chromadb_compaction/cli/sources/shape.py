"""The shape of a collection: its dimension, distance and embedding function. All its records must agree on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from chromadb_compaction.cli.sources.records import RecordSource
from chromadb_compaction.configuration import Space
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError, NewerFormatError, SnapshotCorruptError
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer

_OTHER_NAME = "put them into another collection, with --as NAME for those of ChromaDB and -c NAME for files"


class Shape(NamedTuple):
    """A shape. None in a field: unknown, or left to the collection."""

    dimension: int | None
    space: Space | None
    embedding_function: str | None


def chosen_shape(source: RecordSource, *, space: Space | None, embedding_function: str | None) -> Shape:
    """Return the shape of the source, with what the options add.

    Raises InvalidRequestError if they contradict each other, or if the source measures an unknown distance.
    """
    for option, given, own in (
        ("--space", space, source.space),
        ("--embedding-function", embedding_function, source.embedding_function),
    ):
        if given and own and given != own:
            raise InvalidRequestError(
                f"{source.name} has {own}, and {option} names {given}", next_step=f"put it without {option}"
            )
    if source.needs_space and not (space or source.space):
        raise InvalidRequestError(
            f"the distance of {source.name} cannot be determined", next_step="name it: --space l2, cosine or ip"
        )
    return Shape(source.dimension, space or source.space, embedding_function or source.embedding_function)


def check_agreement(shapes: Iterable[tuple[RecordSource, Shape]]) -> None:
    """Raise InvalidRequestError if sources of one collection contradict each other."""
    first: dict[str, tuple[str, Shape]] = {}
    for source, shape in shapes:
        name, before = first.get(source.collection, (source.name, shape))
        _compare(source, shape, before, name)
        known = Shape(
            before.dimension or shape.dimension,
            before.space or shape.space,
            before.embedding_function or shape.embedding_function,
        )
        first[source.collection] = (name, known)


def published_shape(services: Services, collection: str) -> Shape | None:
    """Return the shape of the published collection. None if there is none, or if it may not be read."""
    try:
        published = read_pointer(services)
        collections = read_manifest(services, published.pointer).collections if published else {}
    except (ConfigurationError, NewerFormatError, SnapshotCorruptError):
        return None  # the credentials may only write deltas; MergeBatch checks in any case
    found = collections.get(collection)
    return Shape(found.dimension, found.space, found.embedding_function) if found else None


def check_published(source: RecordSource, shape: Shape, published: Shape) -> list[str]:
    """Return warnings about what the published collection will not store of the shape.

    Raises InvalidRequestError if the two contradict each other.
    """
    name = f"the published collection {source.collection}"
    _compare(source, shape, published, name)
    if shape.embedding_function and not published.embedding_function:
        return [f"{name} names no embedding function, and will not store {shape.embedding_function}"]
    return []


def _compare(source: RecordSource, shape: Shape, other: Shape, name: str) -> None:
    labels = ("embeddings have {} dimensions", "distance is {}", "embedding function is {}")
    for label, mine, theirs in zip(labels, shape, other, strict=True):
        if mine is not None and theirs is not None and mine != theirs:
            raise InvalidRequestError(
                f"{source.name}: its {label.format(mine)}, but {name} has {theirs}", next_step=_OTHER_NAME
            )
