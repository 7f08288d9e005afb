"""Where somebody's ChromaDB collections are: in a directory, or behind a server's URL."""

from __future__ import annotations

import pickle
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from chromadb_compaction.chroma.client import (
    SQLITE_FILE,
    ChromaError,
    ClientAPI,
    Collection,
    Server,
    open_directory,
    open_server,
)
from chromadb_compaction.cli.sources.files import Rows, Source
from chromadb_compaction.errors import CompactionError, ConfigurationError, InvalidRequestError
from chromadb_compaction.manifest import Space
from chromadb_compaction.snapshots.cache import SnapshotCache, files_below


class Place(ABC):
    """A place that can be opened as often as wanted; what ChromaDB has loaded goes when it is closed.

    `location` is its path, or its URL with tenant and database. `shared`: others write to it while it is read.
    `spool` is where to put down what is read, so that the place is closed while that is written on; None: no need.
    """

    location: str
    shared: bool
    spool: Path | None = None

    @abstractmethod
    def client(self) -> AbstractContextManager[ClientAPI]:
        """Open it to read."""

    def names(self, wanted: Sequence[str]) -> list[str]:
        """Return the collections `wanted`, or all. Raises InvalidRequestError naming those that there are."""
        with self.client() as client:
            found = sorted(collection.name for collection in client.list_collections())
        missing = [name for name in wanted if name not in found]
        if missing or not found:
            named = f" {missing[0]!r}; it has: {', '.join(found) or 'none'}" if missing else ""
            raise InvalidRequestError(f"{self.location} has no collection{named}")
        return sorted(set(wanted)) or found


class ChromaDirectory(Place):
    """A private copy of a directory: to open one is to write to it, and the user's may be the only one."""

    shared = False

    def __init__(self, path: Path, copy: Path) -> None:
        self.location = str(path.resolve())
        self.spool = copy.with_name("spool")
        self._copy = copy

    @contextmanager
    def client(self) -> Iterator[ClientAPI]:
        """Open the copy."""
        try:
            with open_directory(self._copy) as client:
                yield client
        except ChromaError as error:
            raise InvalidRequestError(f"ChromaDB cannot read {self.location}: {error}") from error


class ChromaServer(Place):
    """A server's database."""

    shared = True

    def __init__(self, server: Server) -> None:
        self.location = f"{server}/{server.tenant}/{server.database}"
        self._server = server

    @contextmanager
    def client(self) -> Iterator[ClientAPI]:
        """Open a connection."""
        with open_server(self._server) as client:
            yield client


@contextmanager
def chroma_directory(path: Path, scratch: Path) -> Iterator[ChromaDirectory]:
    """Copy the directory `path` to the disk of `scratch` for as long as this is open.

    Raises InvalidRequestError if it is none, or another program writes to it meanwhile, and ConfigurationError if
    there is no room for it.
    """
    if not (path / SQLITE_FILE).is_file():
        raise InvalidRequestError(f"{path} is no ChromaDB directory: it has no {SQLITE_FILE}")
    with SnapshotCache(scratch).scratch() as directory:
        _check_disk(path, directory)
        before = _stamps(path)
        try:
            copy = Path(shutil.copytree(path, directory / "copy"))
        except (shutil.Error, FileNotFoundError) as error:
            raise InvalidRequestError(f"{path} cannot be copied to be read: {error}") from error
        if _stamps(path) != before:
            raise InvalidRequestError(f"another program writes to {path}; stop it, or give the URL of its server")
        yield ChromaDirectory(path, copy)


def chroma_server(url: str, headers: Sequence[str], database: str | None) -> ChromaServer:
    """Return the server at `url`, asked with `headers` ("Name: value") for `database` (or "tenant/database")."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if not parts.hostname or port == -1 or parts.path.strip("/") or parts.query:
        raise InvalidRequestError(f"{url} is no server's URL; it looks like http://host:8000")
    tenant, _, name = (database or "default_database").rpartition("/")
    server = Server(
        host=parts.hostname,
        port=port or (443 if parts.scheme == "https" else 8000),
        ssl=parts.scheme == "https",
        headers=dict(_header(header) for header in headers),
        tenant=tenant or "default_tenant",
        database=name,
    )
    return ChromaServer(server)


def _header(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise InvalidRequestError('a header is given as "Name: value"')
    return name.strip(), value.strip()


def _check_disk(path: Path, directory: Path) -> None:
    # Itself, and what is read of it.
    needed = 2 * sum(size for size, _ in _stamps(path).values())
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ConfigurationError(
            f"to read a private copy of {path} takes {needed:,} bytes, and {free:,} are free in {directory.parent};"
            " set CHROMADB_CACHE_DIR to a directory that has room"
        )


def _stamps(path: Path) -> dict[str, tuple[int, int]]:
    """Return each file's size and time of change: they tell whether anything was written in between."""
    found = {name: file.stat() for name, file in files_below(path).items()}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


PAGE_ROWS = 500
PAGE_VALUES = 100_000
"""Vector components read at once: ChromaDB makes Python floats of them, 32 bytes each."""

NOTHING = Rows([], [], [], [], [])
SPACES: dict[str, Space] = {"l2": "l2", "cosine": "cosine", "ip": "ip"}


class ChromaCollection(Source):
    """One collection, put under its own name or another. Its `size` is known once its rows are read."""

    def __init__(self, place: Place, name: str, collection: str) -> None:
        self.name = f"the collection {name} of {place.location}"
        self.location = f"{place.location} {name}"
        self.collection = collection
        self.size = 0
        self._place = place
        self._name = name
        with place.client() as client:
            found = client.get_collection(name, embedding_function=None)
            # Not `configuration`: that makes the embedding function, which may want a package or an API key.
            configuration: Any = found.configuration_json
        index = configuration.get("hnsw") or configuration.get("spann") or {}
        self.space = SPACES.get(str(index.get("space")))
        self.embedding_function = (configuration.get("embedding_function") or {}).get("name")

    def rows(self) -> Iterator[Rows]:
        """Yield the records in pages, in the order in which ChromaDB keeps them.

        ChromaDB holds a directory's whole index in memory as long as it is open, so all of its pages go to the
        disk first, giving nothing but progress, and come from there.
        """
        if self._place.spool is None:
            yield from self._pages(passes=1)
            return
        pages = 0
        with self._place.spool.open("wb") as spool:
            for page in self._pages(passes=2):
                pickle.dump(page, spool, protocol=pickle.HIGHEST_PROTOCOL)
                pages += 1
                yield NOTHING._replace(size=page.size)
        yield from _spooled(self._place.spool, pages)

    def _pages(self, *, passes: int) -> Iterator[Rows]:
        with self._place.client() as client:
            found = client.get_collection(self._name, embedding_function=None)
            records = found.count()
            self.size = passes * records
            step = _page_rows(found)
            seen = []
            for offset in range(0, records, step):
                page = _page(found, min(step, records - offset), offset)
                seen.append(hash(tuple(page.ids)))
                yield page
            if self._place.shared and seen != list(_ids_hashes(found, records, step)):
                raise CompactionError(
                    f"records were deleted from {self.name} while it was read, so that others may have been passed"
                    " over; put it with --restart when nobody deletes from it"
                )


def _spooled(spool: Path, pages: int) -> Iterator[Rows]:
    with spool.open("rb") as file:
        for _ in range(pages):
            yield pickle.load(file)  # noqa: S301 - rows() wrote it, in this process's own directory


def _page_rows(collection: Collection) -> int:
    first: Any = collection.get(limit=1, include=["embeddings"])["embeddings"]
    dimension = len(first[0]) if len(first) else 1
    return max(1, min(PAGE_ROWS, PAGE_VALUES // dimension))


def _page(collection: Collection, limit: int, offset: int) -> Rows:
    found: Any = collection.get(limit=limit, offset=offset, include=["embeddings", "documents", "metadatas"])
    count = len(found["ids"])
    return Rows(
        ids=found["ids"],
        deleted=[False] * count,
        embeddings=np.asarray(found["embeddings"], dtype=np.float32),
        documents=found["documents"],
        metadatas=found["metadatas"],
        size=count,
    )


def _ids_hashes(collection: Collection, records: int, step: int) -> Iterator[int]:
    """Yield what tells whether each page still holds the same ids."""
    for offset in range(0, records, step):
        yield hash(tuple(collection.get(limit=min(step, records - offset), offset=offset, include=[])["ids"]))
