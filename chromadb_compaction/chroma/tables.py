"""The SQLite tables of a closed directory, read for what they state, and written in bulk as ChromaDB writes row by row.

Records stand in `embeddings`, `embedding_metadata`, `embedding_metadata_array` and the full-text table; vectors only
in the index's files, and in `embeddings_queue` until ChromaDB has taken them from there. Sequence numbers are
the queue's: a segment has seen everything up to its row in `max_seq_id`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
import pyarrow as pa

from chromadb_compaction.chroma.client import SQLITE_FILE, reclaim_pages
from chromadb_compaction.chroma.loader import Progress, ids_of, texts_of
from chromadb_compaction.chroma.schema import Schema, kind_of
from chromadb_compaction.errors import VerificationError

MAX_LATER_TEXTS = 0.10
"""Pages of the full-text index that may stand beside its largest segment once something was removed."""

# Operations of the queue, as ChromaDB numbers them.
ADD, UPDATE, DELETE = 0, 1, 3

_UNSYNCED = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
"""
_SCRATCH = """
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -16384;
    CREATE TEMP TABLE gone_names (name TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY);
"""
_REMOVE = """
    DELETE FROM embedding_fulltext_search WHERE rowid IN (
        SELECT id FROM embedding_metadata WHERE key = 'chroma:document' AND id IN (SELECT id FROM gone));
    DELETE FROM embedding_metadata WHERE id IN (SELECT id FROM gone);
    DELETE FROM embedding_metadata_array WHERE id IN (SELECT id FROM gone);
    DELETE FROM embeddings WHERE id IN (SELECT id FROM gone);
    DELETE FROM gone;
    DELETE FROM gone_names;
"""

# The row's number holds the segment's from bit 37 on; what belongs to no segment has none there.
_TEXT_SEGMENTS = "SELECT count(*) FROM embedding_fulltext_search_data WHERE id >> 37 > 0 GROUP BY id >> 37"

_TAKE_COLLECTION = """
    BEGIN;
    DELETE FROM tenants;             INSERT INTO tenants SELECT * FROM other.tenants;
    DELETE FROM databases;           INSERT INTO databases SELECT * FROM other.databases;
    DELETE FROM collections;         INSERT INTO collections SELECT * FROM other.collections;
    DELETE FROM collection_metadata; INSERT INTO collection_metadata SELECT * FROM other.collection_metadata;
    DELETE FROM segments;            INSERT INTO segments SELECT * FROM other.segments;
    DELETE FROM segment_metadata;    INSERT INTO segment_metadata SELECT * FROM other.segment_metadata;
    DELETE FROM max_seq_id;          INSERT INTO max_seq_id SELECT * FROM other.max_seq_id;
    COMMIT;
"""
# ChromaDB keeps the newest row of the queue: the number of the next is one more.
_TAKE_PROGRESS = """
    BEGIN;
    DELETE FROM max_seq_id;          INSERT INTO max_seq_id SELECT * FROM other.max_seq_id;
    DELETE FROM embeddings_queue;
    INSERT INTO embeddings_queue SELECT * FROM other.embeddings_queue ORDER BY seq_id DESC LIMIT 1;
    COMMIT;
"""
_LAST_SEQUENCE = """
    SELECT coalesce(max(seq_id), 0) FROM (SELECT seq_id FROM max_seq_id UNION SELECT seq_id FROM embeddings_queue)
"""
_INSERT_DOCUMENT = "INSERT INTO embedding_metadata (id, key, string_value) VALUES (?, 'chroma:document', ?)"
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
    """One entry of the queue. `vector`: float32, little-endian; None for a delete."""

    kind: int
    row_id: str
    vector: bytes | None = None


class Collection(NamedTuple):
    """What the tables state of the directory's collection."""

    id: str
    dimension: int | None
    schema: Schema
    metadata_segment: str
    vector_segment: str
    last_sequence: int


@contextmanager
def scratch_tables(directory: Path) -> Iterator[Tables]:
    """Open the tables of a closed directory that is a scratch copy: commit at the end, without journal or sync.

    After an exception the file may be torn; so the directory is worthless.
    """
    database = sqlite3.connect(directory / SQLITE_FILE, isolation_level=None)
    try:
        database.executescript(_UNSYNCED + _SCRATCH)
        database.execute("BEGIN EXCLUSIVE")
        yield Tables(database, directory.name)
        database.execute("COMMIT")
    finally:
        database.close()


def take_collection(directory: Path, other: Path) -> None:
    """Make a closed directory state the collection of another, of the same version of ChromaDB, without its records."""
    _take(directory, other, _TAKE_COLLECTION)


def take_progress(directory: Path, other: Path) -> None:
    """Make a closed directory state how far the segments of another are, which states the same collection."""
    _take(directory, other, _TAKE_PROGRESS)


def _take(directory: Path, other: Path, script: str) -> None:
    with closing(sqlite3.connect(directory / SQLITE_FILE, isolation_level=None)) as database:
        database.execute("ATTACH ? AS other", (str(other / SQLITE_FILE),))
        database.executescript(_UNSYNCED + script)


def reclaim(directory: Path) -> None:
    """Rewrite the SQLite file of a closed directory that is a scratch copy, if much of it is free.

    By way of the disk: the whole file would be in memory if temporary ones were.
    """
    with closing(sqlite3.connect(directory / SQLITE_FILE, isolation_level=None)) as database:
        database.executescript(_UNSYNCED)
        reclaim_pages(database)


class Tables:
    """The tables of a directory that holds one collection, in one transaction."""

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._database = database
        self._name = name

    def collection(self) -> Collection:
        """Read what the tables state."""
        row = self._database.execute("SELECT id, dimension, schema_str FROM collections").fetchone()
        segments = dict(self._database.execute("SELECT scope, id FROM segments").fetchall())
        return Collection(
            id=row[0],
            dimension=row[1],
            schema=orjson.loads(row[2]),
            metadata_segment=segments["METADATA"],
            vector_segment=segments["VECTOR"],
            last_sequence=self._database.execute(_LAST_SEQUENCE).fetchone()[0],
        )

    def describe(self, collection: Collection) -> None:
        """Write the collection's dimension and schema."""
        self._database.execute(
            "UPDATE collections SET dimension = ?, schema_str = ? WHERE id = ?",
            (collection.dimension, orjson.dumps(collection.schema).decode(), collection.id),
        )

    def remove(self, collection: Collection, ids: Sequence[str]) -> None:
        """Remove records. Raises VerificationError unless all of them are there."""
        if not ids:
            return
        self._database.executemany("INSERT INTO gone_names VALUES (?)", ((row_id,) for row_id in ids))
        found = self._database.execute(
            "INSERT INTO gone SELECT id FROM gone_names CROSS JOIN embeddings"
            " ON segment_id = ? AND embedding_id = name",
            (collection.metadata_segment,),
        ).rowcount
        if found != len(ids):
            raise VerificationError(f"{self._name}: of {len(ids)} records to be removed, only {found} are there")
        for statement in _REMOVE.split(";"):
            self._database.execute(statement)

    def insert(
        self, collection: Collection, parts: Iterable[pa.Table], sequences: Iterable[int], *, progress: Progress
    ) -> dict[str, set[str]]:
        """Add records under new numbers, in the order in which they come, and return the kinds that their keys hold."""
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
                    (number, collection.metadata_segment, row_id, next(sequence))
                    for number, row_id in zip(numbered, ids, strict=True)
                ],
            )
            self._insert_documents(numbered, texts_of(part, "document"))
            self._insert_metadata(numbered, texts_of(part, "metadata"), kinds)
        return kinds

    def _next_number(self) -> int:
        # SQLite itself numbers a new row so.
        return int(self._database.execute("SELECT coalesce(max(id), 0) + 1 FROM embeddings").fetchone()[0])

    def _insert_documents(self, numbers: list[int], documents: list[str | None]) -> None:
        held = [(number, text) for number, text in zip(numbers, documents, strict=True) if text is not None]
        self._database.executemany(_INSERT_DOCUMENT, held)
        self._database.executemany("INSERT INTO embedding_fulltext_search (rowid, string_value) VALUES (?, ?)", held)

    def _insert_metadata(self, numbers: list[int], metadatas: list[str | None], kinds: dict[str, set[str]]) -> None:
        single: list[Cells] = []
        listed: list[Cells] = []
        for number, text in zip(numbers, metadatas, strict=True):
            for key, value in orjson.loads(text).items() if text is not None else ():
                kinds.setdefault(key, set()).add(kind_of(value))
                if isinstance(value, list):
                    listed.extend(_cells(number, key, item) for item in value)
                else:
                    single.append(_cells(number, key, value))
        self._database.executemany(_INSERT_VALUE, single)
        self._database.executemany(_INSERT_LISTED_VALUE, listed)

    def merge_texts(self) -> None:
        """Rewrite the full-text index as one segment if what has come after its largest is much.

        SQLite marks what is removed in new segments, and drops both only when it merges them.
        """
        pages = [count for (count,) in self._database.execute(_TEXT_SEGMENTS)]
        if pages and sum(pages) - max(pages) > MAX_LATER_TEXTS * max(pages):
            self._database.execute(
                "INSERT INTO embedding_fulltext_search (embedding_fulltext_search) VALUES ('optimize')"
            )

    def enqueue(self, collection: Collection, operations: Iterable[Operation], *, first: int) -> None:
        """Queue operations for the index, numbered from `first`. The queue's rows of before are done with."""
        topic = f"persistent://default/default/{collection.id}"
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
        """Say that a segment has seen every operation up to `sequence`."""
        self._database.execute("INSERT OR REPLACE INTO max_seq_id VALUES (?, ?)", (segment, sequence))

    def mark_unseen(self, segment: str) -> None:
        """Say that a segment has seen no operation at all."""
        self._database.execute("DELETE FROM max_seq_id WHERE segment_id = ?", (segment,))

    def seen(self, segment: str) -> int | None:
        """Return the last operation that a segment has seen."""
        found = self._database.execute("SELECT seq_id FROM max_seq_id WHERE segment_id = ?", (segment,)).fetchone()
        return found and int(found[0])


def _cells(number: int, key: str, value: Scalar) -> Cells:
    # A bool is an int to isinstance, and -0.0 reads back as 0.0 whoever wrote it.
    if isinstance(value, str):
        return (number, key, value, None, None, None)
    if isinstance(value, bool):
        return (number, key, None, None, None, value)
    if isinstance(value, int):
        return (number, key, None, value, None, None)
    return (number, key, None, None, value, None)
