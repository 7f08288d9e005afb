"""Deltas as Parquet: reading what anyone wrote, writing our own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chromadb_compaction.delta_columns import (
    DELETE,
    UPSERT,
    DeltaColumns,
    check_column_names,
    delete_carries,
    no_embedding,
    other_dimension,
    unknown_op,
)
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.records import Vector, check_each, check_metadata_text, narrow_rows, row_error

_TEXT_COLUMNS = ("id", "op", "document", "metadata")
_ROW_BYTES = 64  # what a row costs in memory before it holds anything
_BAD_FILE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowKeyError, OSError)
"""What pyarrow raises for damaged bytes. The source is a buffer in memory, so an OSError is never a failed disk;
ArrowMemoryError is not among them, since it says nothing about the data."""


def read(body: bytes, *, header_key: bytes, max_bytes: int) -> tuple[DeltaColumns, bytes | None]:
    """Parse and validate a whole file; return its rows, and the file metadata under `header_key` if there is any.

    Raises CorruptDeltaError naming the bad row, counted from 0.
    """
    try:
        table, header = _load(body, header_key, max_bytes)
        return _check(table), header
    except _BAD_FILE as error:
        first_line = str(error).partition("\n")[0].rstrip(".")
        raise CorruptDeltaError(f"the file is not Parquet, or it is damaged or cut off: {first_line}") from error


def write(columns: DeltaColumns, file_metadata: dict[bytes, bytes]) -> bytes:
    """Return the rows as Parquet, with checksums on its pages."""
    fields = {
        "id": columns.ids,
        "op": pa.array([UPSERT, DELETE]).take(pa.array(columns.deleted.astype(np.int8))),
        "embedding": columns.embedding_array(),
        "document": columns.documents,
        "metadata": columns.metadatas,
    }
    table = pa.table(fields).replace_schema_metadata(file_metadata)
    sink = pa.BufferOutputStream()
    # Vectors are noise to a compressor: only the text pays for its time.
    pq.write_table(
        table,
        sink,
        compression=dict.fromkeys(_TEXT_COLUMNS, "zstd"),
        compression_level=dict.fromkeys(_TEXT_COLUMNS, 1),
        use_dictionary=["op"],
        write_statistics=False,
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def _load(body: bytes, header_key: bytes, max_bytes: int) -> tuple[pa.Table, bytes | None]:
    """Read the whole table, its text still dictionary-encoded where the file has it so, within `max_bytes`."""
    source = pa.BufferReader(body)
    shape = pq.read_metadata(source)
    check_column_names(shape.schema.to_arrow_schema().names)
    _check_size(_declared_bytes(shape), max_bytes)
    file = pq.ParquetFile(
        source, metadata=shape, read_dictionary=_dictionary_columns(shape), page_checksum_verification=True
    )
    table = file.read(use_threads=False).combine_chunks()
    _check_size(sum(_expanded_bytes(table[name]) for name in table.column_names), max_bytes)
    return table, (shape.metadata or {}).get(header_key)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise CorruptDeltaError(
            f"the file unpacks to {size} bytes, over the limit of {max_bytes}; write smaller deltas"
        )


def _declared_bytes(shape: pq.FileMetaData) -> int:
    """Return what reading will take by the file's own account; a vector's numbers count even if run-length encoded."""
    total = shape.num_rows * _ROW_BYTES
    for group in range(shape.num_row_groups):
        for number in range(shape.num_columns):
            column = shape.row_group(group).column(number)
            total += max(column.total_uncompressed_size, 4 * column.num_values)
    return total


def _dictionary_columns(shape: pq.FileMetaData) -> list[str]:
    """Return the text columns with dictionary pages: one long value many times over would burst the memory."""
    names: set[str] = set()
    for group in range(shape.num_row_groups):
        for number in range(shape.num_columns):
            column = shape.row_group(group).column(number)
            if column.path_in_schema in _TEXT_COLUMNS and any("DICTIONARY" in name for name in column.encodings):
                names.add(column.path_in_schema)
    return sorted(names)


def _expanded_bytes(column: pa.ChunkedArray) -> int:
    if not pa.types.is_dictionary(column.type):
        return column.nbytes
    return sum(_expanded_chunk_bytes(chunk) for chunk in column.chunks)


def _expanded_chunk_bytes(chunk: pa.DictionaryArray) -> int:
    if not _is_text(chunk.dictionary.type):
        return chunk.nbytes
    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(chunk.indices)).as_py() or 0


def _check(table: pa.Table) -> DeltaColumns:
    if "id" not in table.column_names:
        raise CorruptDeltaError("the column 'id' is missing")
    ids = _texts(table, "id")
    _refuse_where(pc.is_null(ids), ids, lambda _: "id is missing")
    _refuse_where(pc.equal(ids, ""), ids, lambda _: "id is empty")
    deleted = _deleted(_texts(table, "op"), ids)
    for name in ("embedding", "document", "metadata"):
        if name in table.column_names:
            carried = pc.and_(pa.array(deleted), pc.is_valid(_whole(table, name)))
            _refuse_where(carried, ids, lambda _, name=name: delete_carries(name))
    return DeltaColumns(
        ids=ids,
        deleted=deleted,
        vectors=_vectors(table, ids, np.flatnonzero(~deleted)),
        documents=_texts(table, "document"),
        metadatas=_metadatas(_texts(table, "metadata"), ids),
    )


def _deleted(ops: pa.StringArray, ids: pa.StringArray) -> NDArray[np.bool_]:
    """Say per row whether it deletes. No op is an upsert: so it is where the column is absent altogether."""
    given = pc.fill_null(ops, UPSERT)
    known = pc.is_in(given, pa.array([UPSERT, DELETE]))
    _refuse_where(pc.invert(known), ids, lambda row: unknown_op(given[row].as_py()))
    return np.asarray(pc.equal(given, DELETE).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _metadatas(texts: pa.StringArray, ids: pa.StringArray) -> pa.StringArray:
    return pa.array(check_each(_metadata, texts.to_pylist(), ids.to_pylist()), pa.string())


def _metadata(text: str | None) -> str | None:
    return None if text is None else check_metadata_text(text)


def _vectors(table: pa.Table, ids: pa.StringArray, upserts: NDArray[np.int64]) -> Vector:
    """Return the upserts' embeddings, one row each. `upserts` holds their row numbers."""
    if not len(upserts):
        return np.empty((0, 0), dtype=np.float32)
    if "embedding" not in table.column_names:
        raise row_error(int(upserts[0]), ids[int(upserts[0])].as_py(), no_embedding())
    column = _whole(table, "embedding")
    lists = column if len(upserts) == len(column) else column.take(pa.array(upserts))
    _refuse_where(pc.is_null(lists), ids, lambda _: no_embedding(), upserts)
    _check_embedding_type(lists.type)
    lengths = pc.list_value_length(lists)
    first = lengths[0].as_py()
    _refuse_where(pc.equal(lengths, 0), ids, lambda _: "embedding is empty", upserts)
    odd = pc.not_equal(lengths, first)
    _refuse_where(odd, ids, lambda at: other_dimension(lengths[at].as_py(), first, int(upserts[0])), upserts)
    return _numbers(lists.flatten(), first, ids, upserts)


def _numbers(values: pa.Array, dimension: int, ids: pa.StringArray, upserts: NDArray[np.int64]) -> Vector:
    if values.null_count:
        at = pc.index(pc.is_null(values), True).as_py() // dimension
        raise row_error(int(upserts[at]), ids[int(upserts[at])].as_py(), "embedding holds null, not only numbers")
    return narrow_rows(values.to_numpy().reshape(-1, dimension), ids.to_pylist(), upserts.tolist())


def _check_embedding_type(kind: pa.DataType) -> None:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise CorruptDeltaError(f"the column 'embedding' is of type {kind}; it must be a list of float32")


def _texts(table: pa.Table, name: str) -> pa.StringArray:
    """Return a text column as plain strings in one piece; all null if the file has none."""
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.string())
    column = _whole(table, name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (_is_text(kind) or pa.types.is_null(kind)):
        raise CorruptDeltaError(f"the column {name!r} is of type {kind}; it must be a string")
    texts = column.cast(pa.string())
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise CorruptDeltaError(f"the column {name!r} holds bytes that are not UTF-8") from error
    return texts


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _whole(table: pa.Table, name: str) -> pa.Array:
    chunks = table[name].chunks
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks) if chunks else pa.array([], table[name].type)


def _refuse_where(
    bad: pa.BooleanArray,
    ids: pa.StringArray,
    reason: Callable[[int], str],
    rows: NDArray[np.int64] | None = None,
) -> None:
    """Raise for the first true entry of `bad`. Entry i speaks of row i, or of row rows[i]."""
    at = pc.index(bad, True).as_py()
    if at >= 0:
        row = at if rows is None else int(rows[at])
        raise row_error(row, ids[row].as_py(), reason(at))
