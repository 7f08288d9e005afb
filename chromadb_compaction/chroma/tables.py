"""Read the SQLite tables of a closed directory, and write in bulk the rows that ChromaDB writes one by one.

Records are in `embeddings`, `embedding_metadata`, `embedding_metadata_array` and the full-text table. Vectors are in
the index's files, and in `embeddings_queue` until ChromaDB has indexed them. The queue numbers its operations; a
segment has applied ("seen") all operations up to its row in `max_seq_id`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
import pyarrow as pa

from chromadb_compaction.chroma.client import SQLITE_FILE
from chromadb_compaction.chroma.loader import Progress, ids_of, texts_of
from chromadb_compaction.chroma.schema import MAX_KEYS, Schema, kind_of
from chromadb_compaction.errors import VerificationError

MAX_LATER_TEXTS = 0.10
"""The most pages of the full-text index outside its largest segment, as a share of that segment's pages."""

# Operations of the queue, as ChromaDB numbers them.
ADD, DELETE = 0, 3

UNSYNCED = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
"""
"""The settings for a scratch copy, which a failure makes unusable."""

_SCRATCH = """
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = -16384;
    CREATE TEMP TABLE removed_names (name TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TEMP TABLE removed (id INTEGER PRIMARY KEY);
"""
_REMOVE = """
    DELETE FROM embedding_fulltext_search WHERE rowid IN (
        SELECT id FROM embedding_metadata WHERE key = 'chroma:document' AND id IN (SELECT id FROM removed));
    DELETE FROM embedding_metadata WHERE id IN (SELECT id FROM removed);
    DELETE FROM embedding_metadata_array WHERE id IN (SELECT id FROM removed);
    DELETE FROM embeddings WHERE id IN (SELECT id FROM removed);
    DELETE FROM removed;
    DELETE FROM removed_names;
"""

# Bits 37 and up of a row's id are the number of its segment; they are 0 in rows that belong to no segment.
_TEXT_SEGMENTS = "SELECT count(*) FROM embedding_fulltext_search_data WHERE id >> 37 > 0 GROUP BY id >> 37"

_VALUE_INDEXES = """
    SELECT name, sql FROM sqlite_schema
    WHERE type = 'index' AND tbl_name = 'embedding_metadata' AND sql IS NOT NULL
"""

# The tables of a segment's progress, and those of a whole collection without its records.
_PROGRESS = ("max_seq_id",)
_COLLECTION = ("tenants", "databases", "collections", "collection_metadata", "segments", "segment_metadata", *_PROGRESS)
_COPY_TABLE = "DELETE FROM {0}; INSERT INTO {0} SELECT * FROM source.{0};"
# ChromaDB keeps the newest row of the queue: the next number is one more.
_COPY_LAST_OPERATION = """
    DELETE FROM embeddings_queue;
    INSERT INTO embeddings_queue SELECT * FROM source.embeddings_queue ORDER BY seq_id DESC LIMIT 1;
"""
_LAST_SEQUENCE = """
    SELECT coalesce(max(seq_id), 0) FROM (SELECT seq_id FROM max_seq_id UNION SELECT seq_id FROM embeddings_queue)
"""
_INSERT_DOCUMENT = "INSERT INTO embedding_metadata (id, key, string_value) VALUES (?, 'chroma:document', ?)"
_INSERT_URI = "INSERT INTO embedding_metadata (id, key, string_value) VALUES (?, 'chroma:uri', ?)"
_INSERT_VALUE = """
    INSERT INTO embedding_metadata (id, key, string_value, int_value, float_value, bool_value)
    VALUES (?, ?, ?, ?, ?, ?)
"""
_INSERT_LISTED_VALUE = """
    INSERT INTO embedding_metadata_array (id, key, string_value, int_value, float_value, bool_value)
    VALUES (?, ?, ?, ?, ?, ?)
"""

Scalar = str | int | float | bool
Cells = tuple[int, str, str | None, int | None, float | None, bool | None]
"""One metadata value: the record's number, the key, and the value in the column of its type."""


class Operation(NamedTuple):
    """One row of the queue. `vector` is little-endian float32, and None for a delete."""

    kind: int
    row_id: str
    vector: bytes | None = None


class CollectionState(NamedTuple):
    """The tables' rows about the directory's one collection, and the last sequence number in use."""

    id: str
    dimension: int | None
    schema: Schema
    metadata_segment: str
    vector_segment: str
    last_sequence: int


@contextmanager
def scratch_tables(directory: Path) -> Iterator[Tables]:
    """Open the tables of a closed scratch copy, and commit at the end, without journal or sync.

    After an exception the file may be torn, so the directory is unusable.
    """
    database = sqlite3.connect(directory / SQLITE_FILE, isolation_level=None)
    try:
        database.executescript(UNSYNCED + _SCRATCH)
        database.execute("BEGIN EXCLUSIVE")
        yield Tables(database, directory.name)
        database.execute("COMMIT")
    finally:
        database.close()


def copy_collection(source: Path, target: Path) -> None:
    """Copy the collection's rows, without its records, between closed directories of one version of ChromaDB."""
    _run_copy(source, target, "".join(map(_COPY_TABLE.format, _COLLECTION)))


def copy_progress(source: Path, target: Path) -> None:
    """Copy the segments' sequence numbers, and the queue's last row, between closed directories of one collection."""
    _run_copy(source, target, "".join(map(_COPY_TABLE.format, _PROGRESS)) + _COPY_LAST_OPERATION)


def _run_copy(source: Path, target: Path, script: str) -> None:
    with closing(sqlite3.connect(target / SQLITE_FILE, isolation_level=None)) as database:
        database.execute("ATTACH ? AS source", (str(source / SQLITE_FILE),))
        database.executescript(f"{UNSYNCED} BEGIN; {script} COMMIT;")


class Tables:
    """The tables of a directory that holds one collection, in one transaction."""

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._database = database
        self._name = name

    def read_state(self) -> CollectionState:
        """Return the state of the collection."""
        row = self._database.execute("SELECT id, dimension, schema_str FROM collections").fetchone()
        segments = dict(self._database.execute("SELECT scope, id FROM segments").fetchall())
        return CollectionState(
            id=row[0],
            dimension=row[1],
            schema=orjson.loads(row[2]),
            metadata_segment=segments["METADATA"],
            vector_segment=segments["VECTOR"],
            last_sequence=self._database.execute(_LAST_SEQUENCE).fetchone()[0],
        )

    def write_state(self, state: CollectionState) -> None:
        """Write the collection's dimension and schema."""
        self._database.execute(
            "UPDATE collections SET dimension = ?, schema_str = ? WHERE id = ?",
            (state.dimension, orjson.dumps(state.schema).decode(), state.id),
        )

    def remove(self, state: CollectionState, ids: Sequence[str]) -> None:
        """Remove records. Raises VerificationError unless all of them exist."""
        if not ids:
            return
        self._database.executemany("INSERT INTO removed_names VALUES (?)", ((row_id,) for row_id in ids))
        found = self._database.execute(
            "INSERT INTO removed SELECT id FROM removed_names CROSS JOIN embeddings"
            " ON segment_id = ? AND embedding_id = name",
            (state.metadata_segment,),
        ).rowcount
        if found != len(ids):
            raise VerificationError(f"{self._name}: of {len(ids)} records to remove, only {found} exist")
        for statement in _REMOVE.split(";"):
            self._database.execute(statement)

    def insert(
        self, state: CollectionState, parts: Iterable[pa.Table], sequences: Iterable[int], *, progress: Progress
    ) -> dict[str, set[str]]:
        """Add records under new numbers, in the given order.

        Returns the kinds of value of their metadata keys, of at most MAX_KEYS keys.
        """
        kinds: dict[str, set[str]] = {}
        numbers = iter(range(self._next_number(), 2**63))
        sequence = iter(sequences)
        for part in parts:
            progress()
            ids = ids_of(part)
            numbered = [next(numbers) for _ in ids]
            self._database.executemany(
                "INSERT INTO embeddings (id, segment_id, embedding_id, seq_id) VALUES (?, ?, ?, ?)",
                [
                    (number, state.metadata_segment, row_id, next(sequence))
                    for number, row_id in zip(numbered, ids, strict=True)
                ],
            )
            self._insert_documents(numbered, texts_of(part, "document"))
            self._database.executemany(_INSERT_URI, _numbered_texts(numbered, texts_of(part, "uri")))
            self._insert_metadata(numbered, texts_of(part, "metadata"), kinds)
        return kinds

    @contextmanager
    def indexes_built_last(self) -> Iterator[None]:
        """Remove the indexes on metadata values, and build them after the block, from all rows of the table.

        They get full pages. Rows that are inserted in another order than an index's leave its pages a fifth empty.
        """
        indexes = self._database.execute(_VALUE_INDEXES).fetchall()
        for name, _ in indexes:
            self._database.execute(f"DROP INDEX {name}")
        yield
        for _, statement in indexes:
            self._database.execute(statement)

    def _next_number(self) -> int:
        # SQLite numbers new rows in the same way.
        return int(self._database.execute("SELECT coalesce(max(id), 0) + 1 FROM embeddings").fetchone()[0])

    def _insert_documents(self, numbers: list[int], documents: list[str | None]) -> None:
        held = _numbered_texts(numbers, documents)
        self._database.executemany(_INSERT_DOCUMENT, held)
        self._database.executemany("INSERT INTO embedding_fulltext_search (rowid, string_value) VALUES (?, ?)", held)

    def _insert_metadata(self, numbers: list[int], metadatas: list[str | None], kinds: dict[str, set[str]]) -> None:
        single: list[Cells] = []
        listed: list[Cells] = []
        for number, text in zip(numbers, metadatas, strict=True):
            for key, value in orjson.loads(text).items() if text is not None else ():
                if key in kinds or len(kinds) < MAX_KEYS:
                    kinds.setdefault(key, set()).add(kind_of(value))
                if isinstance(value, list):
                    listed.extend(_cells(number, key, item) for item in value)
                else:
                    single.append(_cells(number, key, value))
        self._database.executemany(_INSERT_VALUE, single)
        self._database.executemany(_INSERT_LISTED_VALUE, listed)

    def merge_texts(self) -> None:
        """Rewrite the full-text index as one segment if its later segments are large.

        SQLite records a removal in a new segment, and drops the removed text only when it merges the segments.
        """
        pages = [count for (count,) in self._database.execute(_TEXT_SEGMENTS)]
        if pages and sum(pages) - max(pages) > MAX_LATER_TEXTS * max(pages):
            self._database.execute(
                "INSERT INTO embedding_fulltext_search (embedding_fulltext_search) VALUES ('optimize')"
            )

    def enqueue(self, state: CollectionState, operations: Iterable[Operation], *, first: int) -> None:
        """Replace the queue's rows by these operations, numbered from `first`."""
        topic = f"persistent://default/default/{state.id}"
        self._database.execute("DELETE FROM embeddings_queue")
        self._database.executemany(
            "INSERT INTO embeddings_queue (seq_id, operation, topic, id, vector, encoding, metadata)"
            " VALUES (?, ?, ?, ?, ?, ?, '{}')",
            (
                (sequence, each.kind, topic, each.row_id, each.vector, each.vector and "FLOAT32")
                for sequence, each in enumerate(operations, first)
            ),
        )

    def mark_seen(self, segment: str, sequence: int) -> None:
        """Record that a segment has seen every operation up to `sequence`."""
        self._database.execute("INSERT OR REPLACE INTO max_seq_id VALUES (?, ?)", (segment, sequence))

    def mark_unseen(self, segment: str) -> None:
        """Record that a segment has seen no operation."""
        self._database.execute("DELETE FROM max_seq_id WHERE segment_id = ?", (segment,))

    def seen(self, segment: str) -> int | None:
        """Return the last operation that a segment has seen."""
        found = self._database.execute("SELECT seq_id FROM max_seq_id WHERE segment_id = ?", (segment,)).fetchone()
        return found and int(found[0])


def _numbered_texts(numbers: list[int], texts: list[str | None]) -> list[tuple[int, str]]:
    return [(number, text) for number, text in zip(numbers, texts, strict=True) if text is not None]


def _cells(number: int, key: str, value: Scalar) -> Cells:
    # A bool is also an int, so it is tested first. -0.0 reads back as 0.0 from ChromaDB's own rows, too.
    if isinstance(value, str):
        return (number, key, value, None, None, None)
    if isinstance(value, bool):
        return (number, key, None, None, None, value)
    if isinstance(value, int):
        return (number, key, None, value, None, None)
    return (number, key, None, None, value, None)
