"""The interface of everything that `put` reads records from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.header import StatedCollection


class Records(NamedTuple):
    """Consecutive records of a source, column by column.

    `embeddings` is a matrix if every record has one. `size` counts for the progress bar only.
    """

    ids: Sequence[str]
    deleted: Sequence[bool]
    embeddings: Any
    documents: Sequence[str | None]
    metadatas: Sequence[dict[str, Any] | None]
    uris: Sequence[str | None]
    size: int = 0

    def part(self, start: int, end: int | None = None) -> Self:
        """Return the records from `start` up to `end`, with the same `size`."""
        some = slice(start, end)
        return self._replace(
            ids=self.ids[some],
            deleted=self.deleted[some],
            embeddings=self.embeddings[some],
            documents=self.documents[some],
            metadatas=self.metadatas[some],
            uris=self.uris[some],
        )


class RecordSource(ABC):
    """Records to put into `collection`.

    `name` is for people, `location` identifies the source from any working directory. `size` is the sum of the sizes of
    its Records, known once the first are read. `dimension`, `space` and `embedding_function` are the collection's, if
    known. With `needs_space` the records have been measured already, so their distance must be known. `stated` is the
    collection of ChromaDB that they come from: it exists even without records.
    """

    name: str
    location: str
    collection: str
    size: int
    dimension: int | None = None
    space: Space | None = None
    needs_space: bool = False
    embedding_function: str | None = None
    stated: StatedCollection | None = None

    @abstractmethod
    def read(self) -> Iterator[Records]:
        """Yield all records, always in the same order. Raises InvalidRequestError if it cannot be read."""
