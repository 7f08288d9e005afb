"""One ChromaDB directory made of several that hold one collection each."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from chromadb_compaction.chroma.client import (
    DEFAULT_SYNC_THRESHOLD,
    SQLITE_FILE,
    ClientAPI,
    Collection,
    open_collection,
    open_directory,
    reclaim_pages,
    set_threshold,
)
from chromadb_compaction.chroma.loader import MAX_BATCH_VALUES
from chromadb_compaction.errors import VerificationError

_INDEX: Final = ("space", "ef_construction", "max_neighbors", "ef_search")
_METADATA: Final = "key, str_value, int_value, float_value, bool_value"


class Part(NamedTuple):
    """The closed directories that hold the collection, one or several, and the number of its records."""

    directories: Sequence[Path]
    records: int


def merge(parts: Mapping[str, Part], into: Path) -> None:
    """Make the directory `into` of all collections, each under its own name, with its records and settings.

    Raises VerificationError if a collection has another number of records afterwards.
    """
    into.mkdir(parents=True)
    with open_directory(into) as client:
        for name, part in parts.items():
            with ExitStack() as stack:
                copied = _copy([stack.enter_context(open_collection(each, name)) for each in part.directories], client)
            if copied != part.records:
                message = f"collection {name} has {copied} records in {into.name}, but {part.records} were published"
                raise VerificationError(message)
    with closing(sqlite3.connect(into / SQLITE_FILE, isolation_level=None)) as database:
        for name, part in parts.items():
            _copy_settings(database, name, part.directories[0] / SQLITE_FILE)
        reclaim_pages(database)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _copy(sources: Sequence[Collection], client: ClientAPI) -> int:
    """Copy the records through ChromaDB's API. Return how many the copy has."""
    index = sources[0].configuration_json["hnsw"]
    configuration: Any = {"hnsw": {name: index[name] for name in _INDEX}}
    target = client.create_collection(sources[0].name, embedding_function=None, configuration=configuration)
    counts = [source.count() for source in sources]
    if not any(counts):
        return target.count()
    set_threshold(target, sum(counts))  # one flush of the index, at the end
    for source, count in zip(sources, counts, strict=True):
        for offset in range(0, count, size := _batch(source, client) if count else 1):
            rows: Any = source.get(limit=size, offset=offset, include=["embeddings", "documents", "metadatas", "uris"])
            metadatas: Any = [each or None for each in rows["metadatas"]]  # add refuses the {} that get returns
            target.add(rows["ids"], rows["embeddings"], metadatas, rows["documents"], uris=rows["uris"])
    set_threshold(target, DEFAULT_SYNC_THRESHOLD)
    return target.count()


def _batch(source: Collection, client: ClientAPI) -> int:
    """Return how many records to copy at once."""
    first: Any = source.get(limit=1, include=["embeddings"])
    return min(client.get_max_batch_size(), max(1, MAX_BATCH_VALUES // len(first["embeddings"][0])))


def _copy_settings(database: sqlite3.Connection, name: str, source: Path) -> None:
    """Copy the collection's metadata and its schema, which has its embedding function too.

    ChromaDB's API would load that function, and refuses some metadata that older versions have stored.
    """
    database.execute("ATTACH ? AS source", (str(source),))
    [identity] = database.execute("SELECT id FROM collections WHERE name = ?", (name,)).fetchone()
    [old] = database.execute("SELECT id FROM source.collections WHERE name = ?", (name,)).fetchone()
    database.execute("BEGIN IMMEDIATE")
    database.execute(
        "UPDATE collections SET (schema_str, config_json_str) ="
        " (SELECT schema_str, config_json_str FROM source.collections WHERE id = ?) WHERE id = ?",
        (old, identity),
    )
    database.execute("DELETE FROM collection_metadata WHERE collection_id = ?", (identity,))
    database.execute(
        f"INSERT INTO collection_metadata (collection_id, {_METADATA})"  # noqa: S608 - names of columns
        f" SELECT ?, {_METADATA} FROM source.collection_metadata WHERE collection_id = ?",
        (identity, old),
    )
    database.execute("COMMIT")
    database.execute("DETACH source")
