"""The rows of a delta in columns: the result of both readers, and the input of the writer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.deltas.limits import MAX_ROW_BYTES, VALUE_BYTES
from chromadb_compaction.deltas.records import Vector, count_values, row_error
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.rows.runs import embedding_type

NO_VECTORS: Vector = np.empty((0, 0), dtype=np.float32)
ROW_OVERHEAD = 16
"""The bytes of a row beside its texts and vector."""
NO_EMBEDDING = "an upsert needs an embedding, and this row has none"


class DeltaColumns(NamedTuple):
    """Valid rows, one entry a row in each column. A delete has no document, metadata, URI or vector.

    `vectors` (float32) is the exception: it has one row for each upsert, in order. `metadatas` is canonical JSON.
    """

    ids: list[str]
    deleted: NDArray[np.bool_]
    vectors: Vector
    documents: list[str | None]
    metadatas: list[str | None]
    uris: list[str | None]

    @property
    def dimension(self) -> int | None:
        """The length of every vector. None without upserts."""
        return self.vectors.shape[1] if len(self.vectors) else None

    @property
    def texts(self) -> tuple[Sequence[str | None], ...]:
        """All columns of texts."""
        return self.ids, self.documents, self.metadatas, self.uris

    def row_bytes(self) -> NDArray[np.int64]:
        """Return the uncompressed size of each row, and at least VALUE_BYTES for each of its metadata values."""
        texts = [sum(len(text.encode()) for text in row if text) for row in zip(*self.texts, strict=True)]
        sizes = ROW_OVERHEAD + np.array(texts, dtype=np.int64)
        sizes[~self.deleted] += 4 * (self.dimension or 0)
        for row, metadata in enumerate(self.metadatas):
            if metadata is not None and VALUE_BYTES * _most_values(metadata) > sizes[row]:
                sizes[row] = max(sizes[row], VALUE_BYTES * count_values(orjson.loads(metadata)))
        return sizes

    def embedding_array(self) -> pa.Array[Any]:
        """Return the embedding column, one entry a row, null for deletes."""
        kind = embedding_type(self.dimension)
        if self.dimension is None:
            return pa.array([None] * len(self.ids), kind)
        if len(self.vectors) == len(self.ids):
            return _fixed_size_lists(self.vectors, kind)
        padded = np.zeros((len(self.ids), self.dimension), dtype=np.float32)
        padded[~self.deleted] = self.vectors
        return _fixed_size_lists(padded, kind, mask=pa.array(self.deleted))


def _fixed_size_lists(matrix: Vector, kind: pa.DataType, mask: pa.BooleanArray | None = None) -> pa.Array[Any]:
    values = cast("Any", pa.array(matrix.reshape(-1)))
    return pa.FixedSizeListArray.from_arrays(values, type=cast("Any", kind), mask=mask)


def check_values(columns: DeltaColumns, *, max_bytes: int) -> None:
    """Raise CorruptDeltaError if all metadata values together take more than `max_bytes`."""
    held = [metadata for metadata in columns.metadatas if metadata is not None]
    if VALUE_BYTES * sum(map(_most_values, held)) <= max_bytes:
        return
    values = sum(count_values(orjson.loads(metadata)) for metadata in held)
    if VALUE_BYTES * values > max_bytes:
        raise CorruptDeltaError(
            f"its rows have {values:,} metadata values, more than the limit of {max_bytes // VALUE_BYTES:,} in a delta",
            next_step="write smaller deltas (1-5 MB)",
        )


def _most_values(metadata: str) -> int:
    return metadata.count(",") + 1


def check_row_bytes(columns: DeltaColumns) -> None:
    """Raise CorruptDeltaError, naming the row, if one has more than MAX_ROW_BYTES."""
    longest = sum(max((len(text) for text in texts if text), default=0) for texts in columns.texts)
    if 4 * (longest + (columns.dimension or 0)) + ROW_OVERHEAD <= MAX_ROW_BYTES:  # UTF-8 has at most 4 a character
        return
    sizes = columns.row_bytes()
    row = int(sizes.argmax())
    if sizes[row] > MAX_ROW_BYTES:
        raise row_error(
            row,
            columns.ids[row],
            f"it has {sizes[row]:,} bytes, more than the limit of {MAX_ROW_BYTES:,}",
            next_step="split its document into several records",
        )


def other_dimension(found: int, first: int, first_row: int) -> str:
    """Return the reason against a vector that differs in length from the first one of the file."""
    return f"embedding has {found} dimensions, but that of row {first_row} has {first}"


def damaged(file_format: str, problem: str) -> CorruptDeltaError:
    """Return the error for a file that cannot be read as `file_format`."""
    return CorruptDeltaError(
        f"the file is not {file_format}, or it is damaged or cut off: {problem}", next_step="write the delta again"
    )


def too_large(limit: int) -> CorruptDeltaError:
    """Return the error for a file that takes more than `limit` bytes in memory."""
    return CorruptDeltaError(f"the file unpacks to more than {limit} bytes", next_step="write smaller deltas (1-5 MB)")
