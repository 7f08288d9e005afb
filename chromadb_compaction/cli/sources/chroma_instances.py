"""The ChromaDB instances that `put` reads collections from: a directory, or a server behind a URL."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chromadb_compaction.chroma.client import (
    SQLITE_FILE,
    ChromaError,
    ClientAPI,
    Collection,
    Server,
    open_directory,
    open_server,
)
from chromadb_compaction.cli.sources.databases import (
    DEFAULT_DATABASE,
    Database,
    directory_databases,
    index_metadata,
    server_databases,
)
from chromadb_compaction.disk import check_disk
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError
from chromadb_compaction.snapshots.cache import SnapshotCache, files_below


class ChromaInstance(ABC):
    """A directory or server. It can be opened any number of times; closing it frees what ChromaDB has loaded.

    Attributes:
        location: Its path, or its URL with tenant and database.
        shared: Whether others may write to it while it is read.
        spool: The file that takes the records, so that the instance can be closed before they are written to
            deltas. None if it may stay open meanwhile.
    """

    location: str
    shared: bool
    spool: Path | None = None

    @abstractmethod
    def client(self) -> AbstractContextManager[ClientAPI]:
        """Open it for reading."""

    def names(self, wanted: Sequence[str]) -> list[str]:
        """Return the `wanted` collections, or all if none are named, sorted.

        Raises InvalidRequestError if a wanted collection does not exist, or if there are no collections.
        """
        with self.client() as client:
            found = sorted(collection.name for collection in client.list_collections())
        missing = [name for name in wanted if name not in found]
        if missing or not found:
            named = f" {missing[0]!r}; it has: {', '.join(found) or 'none'}" if missing else ""
            others = self.other_databases()
            raise InvalidRequestError(
                f"{self.location} has no collection{named}",
                next_step=f"name another database that has some: --database {' or '.join(others)}" if others else None,
            )
        return sorted(set(wanted)) or found

    @abstractmethod
    def other_databases(self) -> list[str]:
        """Return the other databases that have collections, as TENANT/NAME, sorted. Of a server: of its tenant.

        Call `names` first: it brings the files of an older ChromaDB up to date.
        """

    @abstractmethod
    def segment_metadata(self, collection: Collection) -> dict[str, Any]:
        """Return the metadata of an index, where ChromaDB before 1.0 kept its settings. Empty if unknown."""


class ChromaDirectory(ChromaInstance):
    """A private copy of a directory: opening a directory writes to it, and the original may be the only one."""

    shared = False

    def __init__(self, original: Path, copy: Path, database: Database) -> None:
        self.location = str(original.resolve()) if database == DEFAULT_DATABASE else f"{original.resolve()}/{database}"
        self.spool = copy.with_name("spool")
        self._copy = copy
        self._database = database

    @contextmanager
    def client(self) -> Iterator[ClientAPI]:
        """Open the copy. Raises InvalidRequestError if ChromaDB cannot read it, or if it has no such database."""
        try:
            with open_directory(self._copy, tenant=self._database.tenant, database=self._database.name) as client:
                yield client
        except ChromaError as error:
            raise InvalidRequestError(f"ChromaDB cannot read {self.location}: {error}") from error

    def other_databases(self) -> list[str]:
        """Return them, of all tenants."""
        return [str(found) for found in directory_databases(self._copy) if found != self._database]

    def segment_metadata(self, collection: Collection) -> dict[str, Any]:
        """Return it, as it stands in the copy."""
        return index_metadata(self._copy, str(collection.id))


class ChromaServer(ChromaInstance):
    """One database of a server."""

    shared = True

    def __init__(self, server: Server) -> None:
        self.location = f"{server}/{server.tenant}/{server.database}"
        self._server = server

    @contextmanager
    def client(self) -> Iterator[ClientAPI]:
        """Open a connection."""
        with open_server(self._server) as client:
            yield client

    def other_databases(self) -> list[str]:
        """Return those of the same tenant, as far as the server lists them."""
        mine = Database(self._server.tenant, self._server.database)
        return [str(found) for found in server_databases(self._server) if found != mine]

    def segment_metadata(self, collection: Collection) -> dict[str, Any]:  # noqa: ARG002 - a server does not show it
        """Return nothing."""
        return {}


@contextmanager
def chroma_directory(path: Path, scratch: Path, database: str | None = None) -> Iterator[ChromaDirectory]:
    """Copy the directory `path` below `scratch`, and delete the copy at the end of the block.

    `database` is NAME or TENANT/NAME.

    Raises InvalidRequestError if it is not a ChromaDB directory or changes while it is copied, and ConfigurationError
    if the disk has too little space.
    """
    if not (path / SQLITE_FILE).is_file():
        raise InvalidRequestError(f"{path} is not a ChromaDB directory: it has no {SQLITE_FILE}")
    with SnapshotCache(scratch).scratch() as directory:
        before = _stamps(path)
        check_disk(
            directory,
            2 * sum(size for size, _ in before.values()),  # the copy and the spool
            f"copying and reading {path} in {directory.parent}",
            next_step="set CHROMADB_CACHE_DIR to a directory with more space",
            error=ConfigurationError,
        )
        try:
            copy = Path(shutil.copytree(path, directory / "copy"))
        except (shutil.Error, FileNotFoundError) as error:
            raise InvalidRequestError(f"{path} cannot be copied: {error}") from error
        if _stamps(path) != before:
            raise InvalidRequestError(
                f"another program writes to {path}", next_step="stop it, or give the URL of its server"
            )
        yield ChromaDirectory(path, copy, Database.parse(database))


def chroma_server(url: str, headers: Sequence[str], database: str | None) -> ChromaServer:
    """Return the server at `url`. Raises InvalidRequestError for a malformed URL or header.

    `headers` are sent with every request, each as "Name: value". `database` is NAME or TENANT/NAME.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if not parts.hostname or port == -1 or parts.path.strip("/") or parts.query:
        raise InvalidRequestError(f"{url} is not the URL of a server; it looks like http://host:8000")
    tenant, name = Database.parse(database)
    server = Server(
        host=parts.hostname,
        port=port or (443 if parts.scheme == "https" else 8000),
        ssl=parts.scheme == "https",
        headers=dict(_header(header) for header in headers),
        tenant=tenant,
        database=name,
    )
    return ChromaServer(server)


def _header(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise InvalidRequestError('a header must have the form "Name: value"')
    return name.strip(), value.strip()


def _stamps(path: Path) -> dict[str, tuple[int, int]]:
    """Return the size and modification time of each file. Any write changes them."""
    found = {name: file.stat() for name, file in files_below(path).items()}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}
