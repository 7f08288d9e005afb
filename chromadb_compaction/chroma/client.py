"""One ChromaDB directory, holding one collection under its own name: the only module that imports chromadb.

A directory is closed when its files are final: flushed, with no write-ahead log beside it. Even a query writes to
`chroma.sqlite3`, so every reader needs a copy of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import chromadb
import httpx
from chromadb.api import ClientAPI
from chromadb.api.client import Client
from chromadb.api.models.Collection import Collection
from chromadb.api.types import GetResult, Include, Metadata, QueryResult, Where, WhereDocument
from chromadb.config import Settings
from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError

from chromadb_compaction.errors import (
    InvalidRequestError,
    NoSuchCollectionError,
    TransientStorageError,
    VerificationError,
)
from chromadb_compaction.manifest import Space

__all__ = [
    "CHROMADB_VERSION",
    "ChromaError",
    "ClientAPI",
    "Collection",
    "CollectionSpec",
    "GetResult",
    "Include",
    "InvalidArgumentError",
    "Metadata",
    "QueryResult",
    "Server",
    "Where",
    "WhereDocument",
    "create_directory",
    "finalize",
    "open_collection",
    "open_directory",
    "open_server",
    "prepare_collection",
    "reclaim_pages",
    "reset_threshold",
]

DEFAULT_SYNC_THRESHOLD = 1000
"""ChromaDB's own. Left behind in every directory, so that whoever writes to it next flushes as usual."""

CHROMADB_VERSION = chromadb.__version__
SQLITE_FILE = "chroma.sqlite3"
VACUUM_FREE_SHARE = 0.05
"""More than this of SQLite's pages free, and the file is rewritten: a snapshot is read far more often than made."""

# Made once: reading the environment into them takes as long as opening a directory.
_SETTINGS = Settings(anonymized_telemetry=False)
_UNFINISHED_SUFFIXES = ("-wal", "-shm", "-journal")


class CollectionSpec(NamedTuple):
    """What a collection is before it has any record."""

    name: str
    dimension: int
    space: Space


@contextmanager
def open_directory(directory: Path) -> Iterator[ClientAPI]:
    """Open `directory` (made if missing) with telemetry off, and close it.

    ChromaDB counts references per path: the files are released when the last client on the path is closed.
    """
    settings = _SETTINGS.model_copy()
    # ClientAPI, the type that it declares, lacks the close() that every client has.
    with closing(cast("Client", chromadb.PersistentClient(path=directory.resolve(), settings=settings))) as client:
        yield client


class Server(NamedTuple):
    """Where a ChromaDB server answers, and as whom to ask it."""

    host: str
    port: int
    ssl: bool
    headers: dict[str, str]
    tenant: str
    database: str

    def __str__(self) -> str:
        """Return its URL."""
        return f"{'https' if self.ssl else 'http'}://{self.host}:{self.port}"


@contextmanager
def open_server(server: Server) -> Iterator[ClientAPI]:
    """Give a client of a ChromaDB server.

    Raises InvalidRequestError if none answers there, or has no such database for us, and TransientStorageError when
    it fails later on.
    """
    _check_answers(server)
    try:
        with _connected(server) as client:
            yield client
    except (ChromaError, httpx.HTTPError) as error:
        raise TransientStorageError(f"the ChromaDB server at {server} failed: {error}") from error


def _check_answers(server: Server) -> None:
    """Ask for the database: a client of ChromaDB that cannot be made leaves connections behind."""
    path = f"api/v2/tenants/{server.tenant}/databases/{server.database}"
    try:
        answer = httpx.get(f"{server}/{path}", headers=server.headers, follow_redirects=False)
    except httpx.HTTPError as error:
        raise InvalidRequestError(f"no ChromaDB server answers at {server}: {error}") from error
    if answer.status_code in {401, 403}:
        raise InvalidRequestError(f"the ChromaDB server at {server} lets nobody in without a --header that it knows")
    if not answer.is_success or not answer.headers.get("content-type", "").startswith("application/json"):
        raise InvalidRequestError(
            f"{server} is no ChromaDB server, or has no database {server.tenant}/{server.database}: it answered"
            f" {answer.status_code} {answer.text[:200]}"
        )


@contextmanager
def _connected(server: Server) -> Iterator[ClientAPI]:
    """Give a client, and close its connections, which ChromaDB keeps private and never closes."""
    with closing(cast("Client", chromadb.HttpClient(**server._asdict(), settings=_SETTINGS.model_copy()))) as client:
        private: Any = client
        with closing(private._server._session), closing(private._admin_client._server._session):  # noqa: SLF001 - no public way to them
            yield client


@contextmanager
def open_collection(directory: Path, name: str) -> Iterator[Collection]:
    """Open one collection to read. Raises NoSuchCollectionError.

    Its embedding function is None: ours hold none, and ChromaDB's default would download a model.
    """
    with open_directory(directory) as client:
        try:
            collection = client.get_collection(name, embedding_function=None)
        except NotFoundError as error:
            raise NoSuchCollectionError(f"{directory} holds no collection {name!r}") from error
        yield collection


def create_directory(directory: Path, spec: CollectionSpec) -> None:
    """Make the directory with its collection, empty, unless it is there."""
    if not (directory / SQLITE_FILE).exists():
        directory.mkdir(parents=True, exist_ok=True)
        with open_directory(directory) as client:
            prepare_collection(client, spec, operations=DEFAULT_SYNC_THRESHOLD)


def prepare_collection(client: ClientAPI, spec: CollectionSpec, *, operations: int) -> Collection:
    """Return the collection, created if there is none, set to flush exactly once: at the last of `operations`.

    ChromaDB rewrites its whole index each time the threshold is reached, and never flushes below it.
    """
    if any(collection.name == spec.name for collection in client.list_collections()):
        collection = client.get_collection(spec.name, embedding_function=None)
        collection.modify(configuration={"hnsw": {"sync_threshold": operations}})
        return collection
    return client.create_collection(
        spec.name,
        embedding_function=None,
        configuration={"hnsw": {"space": spec.space, "sync_threshold": operations}},
    )


def reset_threshold(collection: Collection) -> None:
    """Set the flush threshold back to ChromaDB's default."""
    collection.modify(configuration={"hnsw": {"sync_threshold": DEFAULT_SYNC_THRESHOLD}})


def finalize(directory: Path) -> None:
    """Bring a closed directory into the form that is published, or raise VerificationError.

    The index holds every operation (the queue is purged but for the one row that ChromaDB keeps), no more than a
    twentieth of SQLite's pages are free, and nothing but final files is left.
    """
    with closing(sqlite3.connect(directory / SQLITE_FILE, isolation_level=None)) as database:
        queued = _number(database, "SELECT count(*) FROM embeddings_queue")
        if queued > 1:
            raise VerificationError(f"{directory.name}: the index is not flushed, {queued} operations are still queued")
        reclaim_pages(database)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    left = sorted(path.name for path in directory.iterdir() if path.name.endswith(_UNFINISHED_SUFFIXES))
    if left:
        raise VerificationError(f"{directory.name}: SQLite is still in use, {', '.join(left)} should be gone")


def reclaim_pages(database: sqlite3.Connection) -> None:
    """Rewrite the database, outside any transaction, if more than a twentieth of its pages are free."""
    free = _number(database, "PRAGMA freelist_count") / max(1, _number(database, "PRAGMA page_count"))
    if free > VACUUM_FREE_SHARE:
        database.execute("VACUUM")


def _number(database: sqlite3.Connection, sql: str) -> int:
    return int(database.execute(sql).fetchone()[0])
