"""Facts that the API of ChromaDB does not show of a directory or server: its databases, an old index's metadata."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote

import httpx

from chromadb_compaction.chroma.client import SQLITE_FILE, Server

_MOST_DATABASES: Final = 50
_SECONDS: Final = 10.0


class Database(NamedTuple):
    """A database, and its tenant."""

    tenant: str
    name: str

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Parse NAME or TENANT/NAME. None gives ChromaDB's default."""
        tenant, _, name = (text or DEFAULT_NAME).rpartition("/")
        return cls(tenant or "default_tenant", name)

    def __str__(self) -> str:
        """Return TENANT/NAME."""
        return f"{self.tenant}/{self.name}"


DEFAULT_NAME: Final = "default_database"
DEFAULT_DATABASE: Final = Database("default_tenant", DEFAULT_NAME)


def directory_databases(directory: Path) -> list[Database]:
    """Return the databases that have collections, of all tenants, sorted. ChromaDB must have opened the directory."""
    with closing(sqlite3.connect(directory / SQLITE_FILE)) as tables:
        rows = tables.execute(
            "SELECT DISTINCT d.tenant_id, d.name FROM databases d JOIN collections c ON c.database_id = d.id"
        )
        return sorted(Database(*row) for row in rows)


def index_metadata(directory: Path, collection_id: str) -> dict[str, Any]:
    """Return the metadata of a collection's index. ChromaDB must have opened the directory."""
    with closing(sqlite3.connect(directory / SQLITE_FILE)) as tables:
        rows = tables.execute(
            "SELECT m.key, coalesce(m.str_value, m.int_value, m.float_value) FROM segment_metadata m"
            " JOIN segments s ON s.id = m.segment_id WHERE s.collection = ? AND s.scope = 'VECTOR'",
            (collection_id,),
        )
        return dict(rows.fetchall())


def server_databases(server: Server) -> list[Database]:
    """Return the databases of the server's tenant that have collections, sorted. A server may list none."""
    path = f"{server}/api/v2/tenants/{quote(server.tenant, safe='')}/databases"
    with httpx.Client(headers=server.headers, timeout=_SECONDS) as client:
        listed = _answer(client, f"{path}?limit={_MOST_DATABASES}")
        names = [database["name"] for database in listed] if isinstance(listed, list) else []
        counts = {name: _answer(client, f"{path}/{quote(name, safe='')}/collections_count") for name in names}
    return sorted(Database(server.tenant, name) for name, count in counts.items() if count)


def _answer(client: httpx.Client, url: str) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of an answer. None if the server refuses: other databases are only mentioned."""
    try:
        response = client.get(url)
        return response.json() if response.is_success else None
    except (httpx.HTTPError, ValueError):
        return None
