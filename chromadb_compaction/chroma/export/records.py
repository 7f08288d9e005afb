"""Documents, metadata and URIs read from the SQLite tables of a closed directory, in the order of the ids."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from chromadb_compaction.chroma.client import SQLITE_FILE
from chromadb_compaction.chroma.export.proof import Texts
from chromadb_compaction.rows.id_ranges import IdRange

_READ = """
    SELECT embedding_id, id, key, string_value, int_value, float_value, bool_value
    FROM embeddings LEFT JOIN embedding_metadata USING (id)
    WHERE segment_id = (SELECT id FROM segments WHERE scope = 'METADATA') AND embedding_id >= :first {end}
    ORDER BY embedding_id
"""
"""The index of `embeddings` has the ids in the order of their bytes, so that only rows of the range are read."""
_END = "AND embedding_id < :end"
_LISTED = """
    SELECT key, string_value, int_value, float_value, bool_value FROM embedding_metadata_array
    WHERE id = ? ORDER BY rowid
"""
_HAS_LISTS = "SELECT EXISTS (SELECT 1 FROM embedding_metadata_array)"
_DOCUMENT, _URI = "chroma:document", "chroma:uri"

Cells = Sequence[Any]
"""The value of a metadata key, in the column of its type: string, int, float, bool. The others are None."""


class Record(NamedTuple):
    """A record without its vector."""

    row_id: str
    texts: Texts


def vector_segment(directory: Path) -> Path:
    """Return the directory of the index's files. It may be missing."""
    with _opened(directory) as database:
        return directory / str(database.execute("SELECT id FROM segments WHERE scope = 'VECTOR'").fetchone()[0])


def read_records(directory: Path, ids: IdRange) -> Iterator[Record]:
    """Yield the records of a range, sorted by the bytes of their ids. The file is not written."""
    with _opened(directory) as database:
        has_lists = bool(database.execute(_HAS_LISTS).fetchone()[0])
        query = _READ.format(end="" if ids.end is None else _END)
        rows = database.execute(query, {"first": ids.first, "end": ids.end})
        for (row_id, number), cells in groupby(rows, itemgetter(0, 1)):
            values: dict[str, Any] = {}
            for _, _, key, *value in cells:
                if key is not None:
                    values[key] = _value(value)
            document, uri = values.pop(_DOCUMENT, None), values.pop(_URI, None)
            if has_lists:
                for key, *value in database.execute(_LISTED, (number,)):
                    values.setdefault(key, []).append(_value(value))
            yield Record(row_id, Texts(document, values or None, uri))


def _opened(directory: Path) -> closing[sqlite3.Connection]:
    source = f"{(directory / SQLITE_FILE).absolute().as_uri()}?mode=ro&immutable=1"
    return closing(sqlite3.connect(source, uri=True))


def _value(cells: Cells) -> object:
    text, integer, real, truth = cells
    if text is not None:
        return text
    if integer is not None:
        return integer
    return real if truth is None else bool(truth)
