"""Write a collection's settings and metadata into ChromaDB's tables.

ChromaDB's API would load the embedding function, and it refuses some metadata that older versions have stored.
"""

from __future__ import annotations

import copy
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson

from chromadb_compaction.chroma.client import SQLITE_FILE
from chromadb_compaction.chroma.schema import Schema, vector_indexes
from chromadb_compaction.configuration import DEFAULT_INDEX, CollectionMetadata, KeptSettings

_COLUMNS: dict[type, str] = {str: "str_value", bool: "bool_value", int: "int_value", float: "float_value"}


def write_settings(directory: Path, settings: KeptSettings) -> None:
    """Write the settings into a closed directory that holds one collection.

    Those that are stated once take effect only before the first record.
    """
    with closing(sqlite3.connect(directory / SQLITE_FILE, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        collection, schema = database.execute("SELECT id, schema_str FROM collections").fetchone()
        changed = _with_settings(orjson.loads(schema), settings)
        database.execute("UPDATE collections SET schema_str = ?", (orjson.dumps(changed).decode(),))
        _write_metadata(database, collection, settings.metadata_value)
        database.execute("COMMIT")


def _with_settings(schema: Schema, settings: KeptSettings) -> Schema:
    """Return the schema with these settings. Raises LookupError or TypeError if it has another shape."""
    changed = copy.deepcopy(schema)
    for config in vector_indexes(changed):
        config["hnsw"]["ef_construction"] = settings.ef_construction or DEFAULT_INDEX.ef_construction
        config["hnsw"]["max_neighbors"] = settings.max_neighbors or DEFAULT_INDEX.max_neighbors
        config["hnsw"]["ef_search"] = settings.ef_search.value if settings.ef_search else DEFAULT_INDEX.ef_search
        # A function that is stated by its name alone may be one that ChromaDB does not know and could not open.
        if settings.function and settings.function.config is not None:
            config["embedding_function"] = settings.function.model_dump()
    return changed


def _write_metadata(database: sqlite3.Connection, collection: str, metadata: CollectionMetadata) -> None:
    database.execute("DELETE FROM collection_metadata WHERE collection_id = ?", (collection,))
    for key, value in metadata.items():
        database.execute(
            f"INSERT INTO collection_metadata (collection_id, key, {_COLUMNS[type(value)]}) VALUES (?, ?, ?)",  # noqa: S608 - a name of _COLUMNS
            (collection, key, value),
        )
