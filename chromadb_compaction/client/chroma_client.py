"""`Client`: ChromaDB's client, over a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self
from uuid import uuid4

from chromadb.api.client import AdminClient
from chromadb.api.client import Client as ChromaClient
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, System
from chromadb.config import Settings as ChromaSettings
from overrides import override

from chromadb_compaction.aws import clients
from chromadb_compaction.client.chroma_api.collection_store import CollectionStore
from chromadb_compaction.client.chroma_api.server_api import BucketAPI
from chromadb_compaction.pending.reader import ReadLevel
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import Settings, settings_with

if TYPE_CHECKING:
    from chromadb.api import ServerAPI


class Client(ChromaClient):
    """A ChromaDB client whose collections are those of a bucket. Use it as any other, for example with LangChain.

    >>> with Client(bucket="chromadb-vectors-prod-123456789012") as client:
    ...     notes = client.get_or_create_collection("notes")
    ...     notes.upsert(ids=["a"], documents=["first"])
    ...     notes.query(query_texts=["one"], n_results=1)

    A write is one delta in the bucket, or several if it is large. It is durable when the call returns, and every read
    that begins later sees it: here at once, in other processes at most READ_REFRESH_SECONDS later. A compaction folds
    it into the published snapshot in its own time. Threads may share one client.

    Args:
        settings: The settings. None: those of the environment (CHROMADB_BUCKET, DELTA_QUEUE_URL, ...).
        bucket: The bucket. None: that of the settings.
        queue_url: The queue to notify of writes. None: that of the settings. Without any, nothing is notified, and the
            next scheduled compaction finds the writes.
        read_level: "fresh" reads the published snapshot and the writes that it does not hold yet. "snapshot" reads the
            published snapshot alone, which costs fewer requests.
        allow_reset: True allows `reset`, which drops every collection of the bucket.
        services: The services to use. None: new clients of S3, SQS and DynamoDB.

    Raises:
        ConfigurationError: A setting is missing or invalid.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        bucket: str | None = None,
        queue_url: str | None = None,
        read_level: ReadLevel = "fresh",
        allow_reset: bool = False,
        services: Services | None = None,
    ) -> None:
        # ChromaDB's own constructor accepts only its own implementations of the interface.
        chosen = {"chromadb_bucket": bucket, "delta_queue_url": queue_url}
        given = {name: value for name, value in chosen.items() if value is not None}
        services = services or clients.connect(settings_with(settings, given))
        self._own_system = System(ChromaSettings(anonymized_telemetry=False, allow_reset=allow_reset))
        self._identifier = f"chromadb-compaction-{uuid4()}"
        self._server: ServerAPI = BucketAPI(self._own_system, CollectionStore(services, read_level=read_level))
        self._admin_client = _admin_client(self._server)
        self.tenant = DEFAULT_TENANT
        self.database = DEFAULT_DATABASE

    @override
    def close(self) -> None:
        """Free the copies of snapshots on this machine's disk. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._server.stop()

    @override
    def __enter__(self) -> Self:
        return self

    @property
    def _system(self) -> System:
        return self._own_system


def _admin_client(server: ServerAPI) -> AdminClient:
    """Return the client that checks tenants and databases. Its constructor accepts only ChromaDB's own servers too."""
    admin = AdminClient.__new__(AdminClient)
    admin._server = server  # noqa: SLF001 - no public way to it
    return admin
