"""The shape of a collection: dimension, distance, index and embedding function. All its records must agree on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from chromadb_compaction.cli.sources.records import RecordSource
from chromadb_compaction.client.published import PublishedShapes
from chromadb_compaction.client.statements import header_of
from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.fitting import Statement, check_fit, decided_shape
from chromadb_compaction.deltas.header import StatedCollection
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError
from chromadb_compaction.rows.shapes import StoredShape

_OTHER_NAME = "put them into another collection, with --as NAME for those of ChromaDB and -c NAME for files"


class Shape(NamedTuple):
    """A shape, with the other settings of a collection. None in a field: unknown, or left to the collection."""

    dimension: int | None
    space: Space | None
    embedding_function: str | None
    stated: StatedCollection | None = None

    @property
    def statement(self) -> Statement:
        """The facts that deltas with this shape state."""
        function, collection = self.embedding_function, self.stated
        header = header_of(space=self.space, embedding_function=function, collection=collection)
        return Statement(header, self.dimension)


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
    function = embedding_function or source.embedding_function
    return Shape(source.dimension, space or source.space, function, source.stated)


def check_agreement(shapes: Iterable[tuple[RecordSource, Shape]]) -> None:
    """Raise InvalidRequestError if sources of one collection contradict each other."""
    first: dict[str, tuple[str, StoredShape]] = {}
    for source, shape in shapes:
        name, before = first.get(source.collection, (source.name, StoredShape.published(source.collection, None)))
        try:
            check_fit(shape.statement, before, owner=name)
        except CorruptDeltaError as error:
            raise _contradiction(source, error) from error
        first[source.collection] = (name, decided_shape(shape.statement, before))


def check_published(source: RecordSource, shape: Shape, published: PublishedShapes) -> list[str]:
    """Return warnings about what the published collection will not store of the shape.

    Raises InvalidRequestError if the two contradict each other.
    """
    try:
        published.check(source.collection, shape.statement)
    except CorruptDeltaError as error:
        raise _contradiction(source, error) from error
    known = published.shape(source.collection)
    if known is None or not known.is_stated or known.settings.function or not shape.embedding_function:
        return []
    name, function = f"the published collection {source.collection}", shape.embedding_function
    return [f"{name} names no embedding function, and will not store {function}"]


def _contradiction(source: RecordSource, error: CorruptDeltaError) -> InvalidRequestError:
    return InvalidRequestError(f"{source.name}: {error.message}", next_step=_OTHER_NAME)
