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

_WANTED = "CREATE TEMP TABLE wanted (name TEXT)"
_OF_WANTED = """
    FROM temp.wanted CROSS JOIN embeddings AS record
    ON segment_id = (SELECT id FROM segments WHERE scope = 'METADATA') AND embedding_id = name
"""
_WANTED_CELLS = f"""
    SELECT name, key, coalesce(string_value, int_value, float_value), bool_value {_OF_WANTED}
    LEFT JOIN embedding_metadata AS cell ON cell.id = record.id
"""
_WANTED_LISTED = f"""
    SELECT name, key, coalesce(string_value, int_value, float_value), bool_value {_OF_WANTED}
    JOIN embedding_metadata_array AS cell ON cell.id = record.id ORDER BY cell.rowid
"""
_WANTED_UNSEARCHABLE = f"""
    SELECT name {_OF_WANTED} JOIN embedding_metadata AS cell ON cell.id = record.id AND key = 'chroma:document'
    LEFT JOIN embedding_fulltext_search_content AS searched ON searched.id = record.id
    WHERE c0 IS NOT string_value LIMIT 1
"""

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


class StoredTexts:
    """The texts of records, read by their ids from the tables of a closed directory. The file is not written."""

    def __init__(self, directory: Path) -> None:
        self._database = _open(directory)
        self._database.execute("PRAGMA temp_store = MEMORY")
        self._database.execute(_WANTED)
        self._has_lists = bool(self._database.execute(_HAS_LISTS).fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def read(self, ids: Sequence[str]) -> dict[str, Texts]:
        """Return the texts by id, without the ids that have no record."""
        self._want(ids)
        found: dict[str, dict[str, Any]] = {}
        for row_id, key, value, truth in self._database.execute(_WANTED_CELLS):
            values = found.get(row_id)
            if values is None:
                values = found[row_id] = {}
            if key is not None:
                values[key] = value if truth is None else bool(truth)
        texts = {
            row_id: (values.pop(_DOCUMENT, None), values, values.pop(_URI, None)) for row_id, values in found.items()
        }
        if self._has_lists:
            for row_id, key, value, truth in self._database.execute(_WANTED_LISTED):
                texts[row_id][1].setdefault(key, []).append(value if truth is None else bool(truth))
        return {row_id: Texts(document, values or None, uri) for row_id, (document, values, uri) in texts.items()}

    def unsearchable(self, ids: Sequence[str]) -> str | None:
        """Return an id whose document is not the one in the full-text table. None: those of all ids are."""
        self._want(ids)
        found = self._database.execute(_WANTED_UNSEARCHABLE).fetchone()
        return found and str(found[0])

    def _want(self, ids: Sequence[str]) -> None:
        self._database.execute("DELETE FROM temp.wanted")
        self._database.executemany("INSERT INTO temp.wanted VALUES (?)", ((row_id,) for row_id in ids))


def _opened(directory: Path) -> closing[sqlite3.Connection]:
    return closing(_open(directory))


def _open(directory: Path) -> sqlite3.Connection:
    source = f"{(directory / SQLITE_FILE).absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(source, uri=True, isolation_level=None)


def _value(cells: Cells) -> object:
    text, integer, real, truth = cells
    if text is not None:
        return text
    if integer is not None:
        return integer
    return real if truth is None else bool(truth)
