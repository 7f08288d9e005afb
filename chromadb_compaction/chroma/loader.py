"""Carrying a fold plan out on a ChromaDB directory. The port is one method, so that a faster way can take its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.chroma.client import (
    Collection,
    CollectionSpec,
    Metadata,
    open_directory,
    prepare_collection,
    reset_threshold,
)
from chromadb_compaction.rows.ledger import FoldPlan

Item = TypeVar("Item")
Progress = Callable[[], object]
"""Called between batches; what it raises stops the fold."""

RECORD = ("id", "embedding", "document", "metadata")
"""The columns of a run that make a record."""

PartSeconds = dict[str, float]
"""What each part of a loader's work took, if it can tell them apart: `index` for the vectors, `records` for the rest.

Records that are written while the index is built add nothing."""

MAX_BATCH_VALUES = 4_000_000
"""Vector components in one call: bounds what ChromaDB's bindings copy, whatever the dimension."""


class Loader(Protocol):
    """Brings a ChromaDB directory from the base to what the plan says."""

    @property
    def name(self) -> str:
        """Return the loader's name, for logs and metrics."""

    def apply(self, directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> PartSeconds:
        """Apply every insert, replacement and delete; leave the directory closed, its index flushed once.

        The directory may be empty or missing. A replacement replaces the whole record. After an exception the
        directory is worthless.
        """


class ApiLoader:
    """Uses ChromaDB's public API alone."""

    name = "api"

    def apply(self, directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> PartSeconds:
        """See Loader.

        A replacement is a delete and an add. ChromaDB's own upsert would keep metadata keys and the document
        that the new row lacks, and updates a vector in place, which costs more than adding it.
        """
        removed = plan.removed
        directory.mkdir(parents=True, exist_ok=True)
        with open_directory(directory) as client:
            collection = prepare_collection(client, spec, operations=len(removed) + plan.written_rows)
            largest = client.get_max_batch_size()
            for ids in batches(removed, largest):
                progress()
                collection.delete(ids=list(ids))
            for rows in plan.written(min(largest, max(1, MAX_BATCH_VALUES // spec.dimension)), RECORD):
                progress()
                _add(collection, rows)
            reset_threshold(collection)
        return {}


def _add(collection: Collection, rows: pa.Table) -> None:
    metadatas = [None if text is None else orjson.loads(text) for text in texts_of(rows, "metadata")]
    collection.add(
        ids=ids_of(rows),
        embeddings=vectors_of(rows),
        # ChromaDB takes None for a record without one, though its types do not say so.
        documents=cast("list[str]", texts_of(rows, "document")),
        metadatas=cast("list[Metadata]", metadatas),
    )


def ids_of(rows: pa.Table) -> list[str]:
    """Return the ids of run-shaped rows."""
    return cast("list[str]", rows["id"].to_pylist())


def texts_of(rows: pa.Table, name: str) -> list[str | None]:
    """Return the documents or the canonical JSON of the metadata of run-shaped rows."""
    return rows[name].to_pylist()


def vectors_of(rows: pa.Table) -> NDArray[np.float32]:
    """Return the embeddings of run-shaped rows (at least one, no deletes among them) as a matrix, one row each."""
    column = cast("pa.FixedSizeListArray[Any, Any]", rows["embedding"].combine_chunks())
    return np.asarray(column.flatten().to_numpy(), dtype=np.float32).reshape(rows.num_rows, -1)


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield `items` in order, at most `size` at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
