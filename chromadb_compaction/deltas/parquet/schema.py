"""The columns of a Parquet file of records: the rules for a delta and for a file that is put, and their types."""

from __future__ import annotations

import re
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from chromadb_compaction.deltas.records import check_names
from chromadb_compaction.errors import CorruptDeltaError

TEXT_COLUMNS: Final = ("id", "op", "document", "metadata", "uri")

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
"""The column in which pandas writes an index without a name."""
_ARROW_SCHEMA, _HIDDEN = b"ARROW:schema", b"HIDDEN:field"
"""The key under which pyarrow stores its own types, and a name of the same length that nothing reads."""


def read_footer(source: pa.NativeFile) -> pq.FileMetaData:
    """Return the file's footer. It has Parquet's own types if pyarrow's cannot be read back.

    Without pyarrow's types, an extension is stored as the type that it extends, and a list view as a list. pyarrow 26
    cannot read list views back, and does not make dictionaries of extensions.
    """
    footer = pq.read_metadata(source)
    if not any(map(_is_only_pyarrows, footer.schema.to_arrow_schema().types)):
        return footer
    source.seek(source.size() - 8)
    size = int.from_bytes(source.read(4), "little")
    source.seek(source.size() - 8 - size)
    plain = source.read(size).replace(_ARROW_SCHEMA, _HIDDEN)
    return pq.read_metadata(pa.BufferReader(b"PAR1" + plain + size.to_bytes(4, "little") + b"PAR1"))


def record_columns(schema: pa.Schema) -> list[str]:
    """Return the names of the columns to read. Raises CorruptDeltaError if a column is unknown or of a wrong type.

    They must be checked before they are read: repeated text in a column of another type would be expanded.
    """
    names = [name for name in schema.names if not _PANDAS_INDEX.fullmatch(name)]
    check_names(names, "column")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise CorruptDeltaError(f"the column {repeated!r} exists twice")
    if "id" not in names:
        raise CorruptDeltaError("the column 'id' is missing", next_step="name the column of the ids 'id'")
    for name in names:
        _check_type(name, schema.field(name).type)
    return names


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of pyarrow's types of strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _check_type(name: str, kind: Any) -> None:  # noqa: ANN401 - the stubs lack value_type
    if pa.types.is_null(kind):
        return
    if name not in TEXT_COLUMNS:
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
            raise CorruptDeltaError(
                f"the column {name!r} is of type {kind}; it must be a list of float32",
                next_step="write every embedding as a flat list of numbers",
            )
        return
    stored = cast("pa.DataType", kind.value_type if pa.types.is_dictionary(kind) else kind)
    if not (is_text(stored) or pa.types.is_null(stored)):
        remedy = "write each as a string that holds a JSON object" if name == "metadata" else "write it as a string"
        raise CorruptDeltaError(f"the column {name!r} is of type {stored}; it must be a string", next_step=remedy)


def _is_only_pyarrows(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType) or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
