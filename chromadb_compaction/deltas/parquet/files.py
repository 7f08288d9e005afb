"""Deltas as Parquet: read those of any producer, write those of DeltaWriter."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chromadb_compaction.deltas.columns import (
    NO_EMBEDDING,
    NO_VECTORS,
    DeltaColumns,
    damaged,
    other_dimension,
    too_large,
)
from chromadb_compaction.deltas.parquet.schema import TEXT_COLUMNS, is_text, read_footer, record_columns
from chromadb_compaction.deltas.parquet.sizes import delta_string_columns, unpacked_bytes
from chromadb_compaction.deltas.records import (
    DELETE,
    UPSERT,
    Vector,
    check_each,
    check_id,
    check_metadata_text,
    check_op,
    narrow_rows,
    row_error,
    value_in_delete,
)

_FEW_ROWS = 30
_DAMAGE_ERRORS = (
    pa.ArrowInvalid,
    pa.ArrowNotImplementedError,
    pa.ArrowTypeError,
    pa.ArrowKeyError,
    OSError,
    UnicodeDecodeError,
)
"""Raised by pyarrow for damaged bytes. The source is a buffer in memory, so an OSError is never a failed disk.
ArrowMemoryError is not listed: it proves nothing about the data."""


def read(body: bytes, *, header_key: bytes, max_bytes: int) -> tuple[DeltaColumns, bytes | None]:
    """Parse and validate a whole file. Return its rows, and the file metadata under `header_key` if there is any.

    Raises CorruptDeltaError naming the first invalid row, counted from 0.
    """
    try:
        table, header = _load(body, header_key, max_bytes)
        return _check(table), header
    except _DAMAGE_ERRORS as error:
        raise damaged("Parquet", str(error).partition("\n")[0].rstrip(".")) from error


def write(columns: DeltaColumns, file_metadata: dict[bytes, bytes]) -> bytes:
    """Return the rows as Parquet, with checksums on its pages."""
    fields = {
        "id": pa.array(columns.ids, pa.string()),
        "op": pa.array([DELETE if deleted else UPSERT for deleted in columns.deleted.tolist()], pa.string()),
        "embedding": columns.embedding_array(),
        "document": pa.array(columns.documents, pa.string()),
        "metadata": pa.array(columns.metadatas, pa.string()),
    }
    if any(uri is not None for uri in columns.uris):  # earlier versions refuse the column
        fields["uri"] = pa.array(columns.uris, pa.string())
    texts = [name for name in TEXT_COLUMNS if name in fields]
    table = pa.table(cast("Any", fields)).replace_schema_metadata(file_metadata)
    sink = pa.BufferOutputStream()
    # Vectors do not compress.
    pq.write_table(
        table,
        sink,
        compression=cast("Any", dict.fromkeys(texts, "zstd")),
        compression_level=dict.fromkeys(texts, 1),
        use_dictionary=cast("Any", ["op"]),
        write_statistics=False,
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def _load(body: bytes, header_key: bytes, max_bytes: int) -> tuple[pa.Table, bytes | None]:
    """Read the table with its text dictionary-encoded. That form and the plain one must fit in `max_bytes`."""
    if unpacked_bytes(body, enough=max_bytes) > max_bytes:
        raise too_large(max_bytes)
    source = pa.BufferReader(body)
    footer = read_footer(source)
    names = record_columns(footer.schema.to_arrow_schema())
    leaves = {footer.schema.column(number).path for number in range(footer.num_columns)}
    # `read` turns damage into exceptions. Reading the metadata of one damaged column aborts the process.
    open_file = partial(pq.ParquetFile, source, metadata=footer, page_checksum_verification=True)
    texts = [str(name) for name in TEXT_COLUMNS if name in leaves]
    try:
        table = open_file(read_dictionary=texts).read(names, use_threads=False)
    except OSError:
        plain = {footer.schema.column(number).path for number in delta_string_columns(body)}
        if not plain:
            raise
        # pyarrow makes no dictionaries of strings in a delta encoding. Their plain size is within `max_bytes`.
        table = open_file(read_dictionary=[name for name in texts if name not in plain]).read(names, use_threads=False)
    table.validate(full=True)  # kernels may crash on invalid UTF-8 or dictionary indices
    table = table.combine_chunks()
    most = table.nbytes * (1 + table.num_rows)  # each row may repeat everything that the table holds
    if most > max_bytes and sum(_expanded_bytes(_whole(table, name)) for name in table.column_names) > max_bytes:
        raise too_large(max_bytes)
    return table, (footer.metadata or {}).get(header_key)


def _expanded_bytes(column: Any) -> int:  # noqa: ANN401 - any kind of array
    """Return the column's size in plain form. A dictionary holds a repeated value only once."""
    if not (pa.types.is_dictionary(column.type) and is_text(column.type.value_type)):
        return int(column.nbytes)
    lengths = cast("Any", pc).binary_length(column.dictionary).cast(pa.int64())
    return cast("Any", pc).sum(lengths.take(column.indices)).as_py() or 0


def _check(table: pa.Table) -> DeltaColumns:
    given = _texts(table, "id")
    ids = check_each(check_id, given, given)
    deleted = np.array(check_each(check_op, _texts(table, "op"), ids), dtype=np.bool_)
    _check_deletes(table, ids, deleted)
    return DeltaColumns(
        ids=ids,
        deleted=deleted,
        vectors=_vectors(table, ids, np.flatnonzero(~deleted)),
        documents=_texts(table, "document"),
        metadatas=check_each(check_metadata_text, _texts(table, "metadata"), ids),
        uris=_texts(table, "uri"),
    )


def _check_deletes(table: pa.Table, ids: list[str], deleted: NDArray[np.bool_]) -> None:
    if not deleted.any():
        return
    for name in table.column_names:
        with_value = np.flatnonzero(deleted & ~_is_null(_whole(table, name)))
        if name not in ("id", "op") and len(with_value):
            row = int(with_value[0])
            error = value_in_delete(name)
            raise row_error(row, ids[row], error.message, next_step=error.next_step)


def _vectors(table: pa.Table, ids: list[str], upserts: NDArray[np.int64]) -> Vector:
    """Return the upserts' embeddings, one row each. `upserts` holds their row numbers."""
    if not len(upserts):
        return NO_VECTORS
    rows = upserts.tolist()
    if "embedding" not in table.column_names:
        raise row_error(rows[0], ids[rows[0]], NO_EMBEDDING)
    column = _whole(table, "embedding")
    lists = column if len(rows) == len(column) else column.take(pa.array(rows))
    if lists.null_count:
        row = rows[int(np.argmax(_is_null(lists)))]
        raise row_error(row, ids[row], NO_EMBEDDING)
    dimension = _one_length(np.asarray(cast("Any", pc).list_value_length(lists)), ids, rows)
    values = _numbers(lists)
    if values.null_count:
        row = rows[int(np.argmax(_is_null(values))) // dimension]
        raise row_error(row, ids[row], "embedding holds null, not only numbers")
    return narrow_rows(values.to_numpy().reshape(-1, dimension), ids, rows)


def _numbers(lists: Any) -> Any:  # noqa: ANN401 - any kind of list array
    """Return the values of lists without nulls, one after the other. Unlike `flatten`, this copies nothing."""
    if pa.types.is_fixed_size_list(lists.type):
        start, size = lists.offset * lists.type.list_size, len(lists) * lists.type.list_size
        return lists.values.slice(start, size)
    first, last = lists.offsets[0].as_py(), lists.offsets[-1].as_py()
    return lists.values.slice(first, last - first)


def _one_length(lengths: NDArray[np.int64], ids: list[str], rows: list[int]) -> int:
    """Return the length of all vectors, which must be equal. Entry i of `lengths` is row rows[i]."""
    first = int(lengths[0])
    odd = np.flatnonzero((lengths != first) | (lengths == 0))
    if len(odd):
        at = int(odd[0])
        reason = other_dimension(int(lengths[at]), first, rows[0]) if lengths[at] else "embedding is empty"
        raise row_error(rows[at], ids[rows[at]], reason)
    return first


def _texts(table: pa.Table, name: str) -> list[str | None]:
    """Return a text column. If the file lacks it, every value is None."""
    if name not in table.column_names:
        return [None] * table.num_rows
    column = _whole(table, name)
    # Python objects from a dictionary take ten times as long, but the cast takes as long as thirty rows.
    plain = column if len(column) < _FEW_ROWS else column.cast(pa.large_string())
    texts: list[str | None] = plain.to_pylist()
    return texts


def _is_null(column: Any) -> NDArray[np.bool_]:  # noqa: ANN401 - any kind of array
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)


def _whole(table: pa.Table, name: str) -> Any:  # noqa: ANN401 - any kind of array
    return cast("Any", table[name]).combine_chunks()  # _load has combined them: no copy
