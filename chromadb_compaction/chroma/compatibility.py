"""The compatibility check: a directory must be of a ChromaDB version that the differential suite has passed on.

The suite (tests/differential) proves that the bulk loader's directories answer like those that ChromaDB's own API
writes. The proof holds for one version of ChromaDB and the tables that this version makes.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson

from chromadb_compaction.chroma.client import SQLITE_FILE, CollectionSpec, chromadb_version
from chromadb_compaction.chroma.schema import hnsw_settings

PROVEN = {"1.5.9": "5c1af3b0cee38ee104a7e0100ff366e59448e247054eb37dfcb4b5ece26aed44"}
"""The digest of the `migrations` rows, by ChromaDB version. Add a version when the differential suite passes on it."""

_PROBE = "CREATE VIRTUAL TABLE texts USING fts5(text, tokenize='trigram')"
_SEGMENTS = {
    ("VECTOR", "urn:chroma:segment/vector/hnsw-local-persisted"),
    ("METADATA", "urn:chroma:segment/metadata/sqlite"),
}


def incompatibility(directory: Path, spec: CollectionSpec) -> str | None:
    """Return why only ChromaDB's API may write to a closed directory. None: the bulk loader may, too."""
    proven = PROVEN.get(chromadb_version())
    if proven is None:
        return f"the differential suite has not passed on ChromaDB {chromadb_version()}"
    if not _has_full_text_search():
        return "this Python's SQLite lacks the full-text index that ChromaDB uses"
    with closing(sqlite3.connect(directory / SQLITE_FILE)) as database:
        if migrations_digest(database) != proven:
            return f"its migrations are not those of ChromaDB {chromadb_version()}"
        return _table_problem(database, spec)


def migrations_digest(database: sqlite3.Connection) -> str:
    """Return one digest of the directory, version and hash of every migration that was applied to a database."""
    rows = database.execute("SELECT dir, version, hash FROM migrations ORDER BY dir, version").fetchall()
    return hashlib.sha256(
        "".join(f"{part}/{version}/{digest}\n" for part, version, digest in rows).encode()
    ).hexdigest()


def _table_problem(database: sqlite3.Connection, spec: CollectionSpec) -> str | None:
    """Return how the tables differ from those that the suite has tested. None: they do not."""
    collections = database.execute("SELECT name, dimension, schema_str FROM collections").fetchall()
    if [name for name, *_ in collections] != [spec.name]:
        return f"it holds {len(collections)} collections, not this one alone"
    _, dimension, schema = collections[0]
    if dimension not in {None, spec.dimension}:
        return f"its collection has {dimension} dimensions"
    try:
        hnsw_settings(orjson.loads(schema))
    except (LookupError, TypeError, ValueError):
        return "its collection's schema has another shape"
    if set(database.execute("SELECT scope, type FROM segments").fetchall()) != _SEGMENTS:
        return "its segments are of other types"
    return _flush_problem(database)


def _flush_problem(database: sqlite3.Connection) -> str | None:
    seen = dict(
        database.execute("SELECT scope, seq_id FROM segments LEFT JOIN max_seq_id ON segment_id = id").fetchall()
    )
    queued = database.execute("SELECT max(seq_id) FROM embeddings_queue").fetchone()[0]
    if seen["METADATA"] != seen["VECTOR"] or queued != seen["VECTOR"]:
        return "its index is not flushed"
    return None


def _has_full_text_search() -> bool:
    with closing(sqlite3.connect(":memory:")) as database:
        try:
            database.execute(_PROBE)
        except sqlite3.OperationalError:
            return False
    return True
