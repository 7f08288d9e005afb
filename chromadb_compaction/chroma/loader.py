"""Apply a fold plan to a ChromaDB directory: the `Loader` port, and the loader that uses ChromaDB's API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.chroma.client import (
    DEFAULT_SYNC_THRESHOLD,
    CollectionSpec,
    open_directory,
    set_threshold,
)
from chromadb_compaction.rows.ledger import FoldPlan
from chromadb_compaction.rows.runs import LENGTH

if TYPE_CHECKING:
    from chromadb_compaction.chroma.client import Collection, Metadata

Item = TypeVar("Item")
Progress = Callable[[], object]
"""Called between batches. An exception from it stops the fold."""

RECORD = ("id", "embedding", "document", "metadata", "uri")
"""The columns of a run that make up a record."""

PartSeconds = dict[str, float]
"""The seconds of a loader's parts, if it measures them: `index` for the vectors, `records` for the rest.

The two add up to the whole: time in which both parts ran counts as `index`."""


class Loaded(NamedTuple):
    """The work of a loader.

    Attributes:
        seconds: The time of its parts.
        replaced_in_place: The vectors that earlier releases have replaced in place since the index was built. None: as
            many as before.
        index_files: The directory of the index's files, if the loader knows their format.
    """

    seconds: PartSeconds
    replaced_in_place: int | None = None
    index_files: Path | None = None


MAX_BATCH_VALUES = 4_000_000
"""The most vector components in one call. It bounds the bytes that ChromaDB's bindings copy, in any dimension."""


class Loader(Protocol):
    """The port for applying a plan to a ChromaDB directory."""

    @property
    def name(self) -> str:
        """Return the loader's name, for logs and metrics."""

    def apply(self, directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> Loaded:
        """Apply every insert, replacement and delete, flush the index once, and close the directory.

        A replacement replaces the whole record.

        Args:
            directory: A closed directory made by `create_directory`. After an exception it is unusable.
            spec: The collection that it holds.
            plan: The changes.
            progress: Called between batches.
        """


class ApiLoader:
    """A loader that uses only ChromaDB's public API."""

    name = "api"

    def apply(self, directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> Loaded:
        """Apply the plan as `Loader.apply` states.

        A replacement is a delete and an add. ChromaDB's own upsert would keep metadata keys and the document
        that the new row lacks. It would also replace the vector in place; see rebuild.py.
        """
        removed = plan.removed
        with open_directory(directory) as client:
            collection = client.get_collection(spec.name, embedding_function=None)
            set_threshold(collection, len(removed) + plan.written_rows)
            largest = client.get_max_batch_size()
            for ids in batches(removed, largest):
                progress()
                collection.delete(ids=list(ids))
            for rows in plan.written(min(largest, max(1, MAX_BATCH_VALUES // spec.dimension)), RECORD):
                progress()
                add_records(collection, rows)
            set_threshold(collection, DEFAULT_SYNC_THRESHOLD)
        return Loaded({})


def add_records(collection: Collection, rows: pa.Table) -> None:
    """Add run-shaped rows, none of which exists yet, by ChromaDB's API."""
    metadatas = [None if text is None else orjson.loads(text) for text in texts_of(rows, "metadata")]
    collection.add(
        ids=ids_of(rows),
        embeddings=vectors_of(rows),
        # ChromaDB accepts None for a record without a document or metadata, although its types do not say so.
        documents=cast("list[str]", texts_of(rows, "document")),
        metadatas=cast("list[Metadata]", metadatas),
        uris=cast("list[str]", texts_of(rows, "uri")),
    )


def ids_of(rows: pa.Table) -> list[str]:
    """Return the ids of run-shaped rows."""
    return cast("list[str]", rows["id"].to_pylist())


def texts_of(rows: pa.Table, name: str) -> list[str | None]:
    """Return the documents or URIs of run-shaped rows, or their metadata as canonical JSON."""
    return rows[name].to_pylist()


def vectors_of(rows: pa.Table) -> NDArray[np.float32]:
    """Return the embeddings of run-shaped rows as a matrix. There must be at least one row, and no deletes.

    Those of moved cosine rows are scaled back by their lengths, as ChromaDB does when it returns them.
    """
    stored, lengths = stored_vectors_of(rows)
    return stored if lengths is None else np.asarray(stored * lengths[:, None])


def stored_vectors_of(rows: pa.Table) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the embeddings as they are in the rows, and the lengths of moved cosine rows. There must be a row."""
    column = cast("pa.FixedSizeListArray[Any, Any]", rows["embedding"].combine_chunks())
    stored = np.asarray(column.flatten().to_numpy(), dtype=np.float32).reshape(rows.num_rows, -1)
    return stored, rows[LENGTH.name].to_numpy() if LENGTH.name in rows.column_names else None


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield `items` in order, at most `size` at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
