"""ChromaDB's clients, and one ChromaDB directory that holds one collection under its own name.

Importing this module does not import ChromaDB, which takes most of a second. The first use of it does, and `load`.

A directory is closed when its files are final: flushed, with no write-ahead log beside it. Even a query writes to
`chroma.sqlite3`, so every reader needs a private copy.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from chromadb_compaction.chroma.schema import SQLITE_FILE
from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.errors import (
    InvalidRequestError,
    NoSuchCollectionError,
    TransientStorageError,
    VerificationError,
)

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection
    from chromadb.api.types import GetResult, Include, Metadata, QueryResult, Where, WhereDocument
    from chromadb.config import Settings
    from chromadb.errors import ChromaError, InternalError, InvalidArgumentError

_MODULES = {
    "ClientAPI": "chromadb.api",
    "Collection": "chromadb.api.models.Collection",
    **dict.fromkeys(("ChromaError", "InternalError", "InvalidArgumentError"), "chromadb.errors"),
    **dict.fromkeys(
        ("GetResult", "Include", "Metadata", "QueryResult", "Where", "WhereDocument"), "chromadb.api.types"
    ),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import one of ChromaDB's classes when it is asked for."""
        if name not in _MODULES:
            raise AttributeError(name)
        return getattr(import_module(_MODULES[name]), name)


# ChromaDB's own classes, exported for the other modules.
__all__ = [
    "SQLITE_FILE",
    "ChromaError",
    "ClientAPI",
    "Collection",
    "GetResult",
    "Include",
    "InternalError",
    "InvalidArgumentError",
    "Metadata",
    "OpenCollection",
    "QueryResult",
    "Where",
    "WhereDocument",
]

LOADED_AT_START = frozenset({"provisioned-concurrency", "snap-start"})
"""Lambda environments that start before a request: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
DEFAULT_TENANT = "default_tenant"
DEFAULT_DATABASE = "default_database"
DEFAULT_SYNC_THRESHOLD = 1000
"""ChromaDB's default. Every published directory has it, so that later writers flush as usual."""

VACUUM_FREE_SHARE = 0.05
"""SQLite's file is rewritten if a larger share of its pages is free: a snapshot is read far more often than written."""

_UNFINISHED_SUFFIXES = ("-wal", "-shm", "-journal")


class OpenCollection(Protocol):
    """The reads of an open collection: ChromaDB's own in one directory, or one over several directories."""

    def count(self) -> int:
        """Return the number of records."""

    def get(
        self,
        *,
        ids: list[str] | None = None,
        where: Where | None = None,
        limit: int | None = None,
        offset: int | None = None,
        where_document: WhereDocument | None = None,
        include: Include,
    ) -> GetResult:
        """Return the records that pass the filters."""

    def query(
        self,
        *,
        query_embeddings: Vector,
        n_results: int,
        ids: list[str] | None = None,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        include: Include,
    ) -> QueryResult:
        """Return the nearest records of each question that pass the filters."""


class CollectionSpec(NamedTuple):
    """The name and the shape of a collection."""

    name: str
    dimension: int
    space: Space


def load() -> None:
    """Import all of ChromaDB that a read of a collection needs."""
    _settings()
    import_module("chromadb.api.rust")


def chromadb_version() -> str:
    """Return the version of ChromaDB."""
    import chromadb

    return chromadb.__version__


def load_beside() -> None:
    """Import ChromaDB in a thread, for which the first use of it waits. Call this before other imports.

    This module has imported pydantic, whose modules import each other: no thread must see half of one.
    """
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") in LOADED_AT_START:
        load()
    else:
        Thread(target=load, name="import chromadb").start()


@cache
def _settings() -> Settings:
    """Return the settings of every client. Reading the environment takes as long as opening a directory."""
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False)


@contextmanager
def open_directory(
    directory: Path, *, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
) -> Iterator[ClientAPI]:
    """Open `directory` with telemetry off, creating it if it is missing, and close it afterwards.

    ChromaDB counts references per path: the files are released when the last client on the path is closed.
    """
    import chromadb

    settings = _settings().model_copy()
    # The declared type, ClientAPI, lacks the close() that every client has.
    opened = chromadb.PersistentClient(directory.resolve(), settings=settings, tenant=tenant, database=database)
    with closing(cast("Client", opened)) as client:
        yield client


class Server(NamedTuple):
    """The address of a ChromaDB server, the headers of every request, and the database to use."""

    host: str
    port: int
    ssl: bool
    headers: dict[str, str]
    tenant: str
    database: str

    def __str__(self) -> str:
        """Return the server's URL."""
        return f"{'https' if self.ssl else 'http'}://{self.host}:{self.port}"


@contextmanager
def open_server(server: Server) -> Iterator[ClientAPI]:
    """Yield a client of a ChromaDB server.

    Raises InvalidRequestError if no ChromaDB server answers, or if the database is not accessible, and
    TransientStorageError if the server fails later.
    """
    import httpx
    from chromadb.errors import ChromaError

    _check_database(server)
    try:
        with _http_client(server) as client:
            yield client
    except (ChromaError, httpx.HTTPError) as error:
        raise TransientStorageError(f"the ChromaDB server at {server} failed: {error}") from error


def _check_database(server: Server) -> None:
    """Request the database first, because a ChromaDB client that fails to connect leaves connections open."""
    import httpx

    path = f"api/v2/tenants/{server.tenant}/databases/{server.database}"
    try:
        response = httpx.get(f"{server}/{path}", headers=server.headers, follow_redirects=False)
    except httpx.HTTPError as error:
        raise InvalidRequestError(f"no ChromaDB server answers at {server}: {error}") from error
    if response.status_code in {401, 403}:
        raise InvalidRequestError(
            f"the ChromaDB server at {server} answered {response.status_code}", next_step="pass a valid --header"
        )
    if not response.is_success or not response.headers.get("content-type", "").startswith("application/json"):
        raise InvalidRequestError(
            f"{server} is not a ChromaDB server, or has no database {server.tenant}/{server.database}: it answered"
            f" {response.status_code} {response.text[:200]}"
        )


@contextmanager
def _http_client(server: Server) -> Iterator[ClientAPI]:
    """Yield a client, and close its connections, which ChromaDB keeps private and never closes."""
    import chromadb

    with closing(cast("Client", chromadb.HttpClient(**server._asdict(), settings=_settings().model_copy()))) as client:
        private: Any = client
        with closing(private._server._session), closing(private._admin_client._server._session):  # noqa: SLF001 - no public way to them
            yield client


@contextmanager
def open_collection(directory: Path, name: str) -> Iterator[Collection]:
    """Open one collection for reading. Raises NoSuchCollectionError.

    The embedding function is None: our collections have none, and ChromaDB's default would download a model.
    """
    with open_directory(directory) as client:
        from chromadb.errors import NotFoundError

        try:
            collection = client.get_collection(name, embedding_function=None)
        except NotFoundError as error:
            raise NoSuchCollectionError(f"{directory} holds no collection {name!r}") from error
        yield collection


def create_directory(directory: Path, spec: CollectionSpec) -> None:
    """Create the directory with an empty collection if it holds no ChromaDB database yet."""
    if not (directory / SQLITE_FILE).exists():
        directory.mkdir(parents=True, exist_ok=True)
        with open_directory(directory) as client:
            client.create_collection(
                spec.name,
                embedding_function=None,
                configuration={"hnsw": {"space": spec.space, "sync_threshold": DEFAULT_SYNC_THRESHOLD}},
            )


def set_threshold(collection: Collection, operations: int) -> None:
    """Make the collection flush its index after that many operations.

    ChromaDB rewrites its whole index each time the threshold is reached, and never flushes below it.
    """
    collection.modify(configuration={"hnsw": {"sync_threshold": operations}})


def finalize(directory: Path) -> None:
    """Bring a closed directory into the form that is published, or raise VerificationError.

    Afterwards the index holds every operation (ChromaDB keeps one row in the queue), at most a twentieth of SQLite's
    pages are free, and only final files are left.
    """
    with closing(sqlite3.connect(directory / SQLITE_FILE, isolation_level=None)) as database:
        queued = _number(database, "SELECT count(*) FROM embeddings_queue")
        if queued > 1:
            raise VerificationError(f"{directory.name}: the index is not flushed, {queued} operations are still queued")
        reclaim_pages(database)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    left = sorted(path.name for path in directory.iterdir() if path.name.endswith(_UNFINISHED_SUFFIXES))
    if left:
        raise VerificationError(f"{directory.name}: SQLite is still in use, {', '.join(left)} should not exist")


def reclaim_pages(database: sqlite3.Connection) -> None:
    """Rewrite the database if more than a twentieth of its pages are free. No transaction may be open."""
    free = _number(database, "PRAGMA freelist_count") / max(1, _number(database, "PRAGMA page_count"))
    if free > VACUUM_FREE_SHARE:
        database.execute("VACUUM")


def _number(database: sqlite3.Connection, sql: str) -> int:
    return int(database.execute(sql).fetchone()[0])
