"""ChromaDB's interface over a bucket: `chromadb.api.ServerAPI`, behind our client and behind ChromaDB's own server."""

from __future__ import annotations

from functools import cached_property

from chromadb.config import System
from overrides import override

from chromadb_compaction.aws import clients
from chromadb_compaction.client.chroma_api.collection_store import CollectionStore
from chromadb_compaction.client.chroma_api.record_calls import RecordCalls


class BucketAPI(RecordCalls):
    """ChromaDB's interface over the collections of one bucket. Threads share one.

    Args:
        system: ChromaDB's container of components. Its settings say whether `reset` is allowed.
        store: The collections. None: those of the bucket that the environment names.
    """

    def __init__(self, system: System, store: CollectionStore | None = None) -> None:
        super().__init__(system)
        if store is not None:
            self.__dict__["store"] = store

    @cached_property
    def store(self) -> CollectionStore:
        """The collections."""
        return CollectionStore(clients.services())

    @override
    def stop(self) -> None:
        """Free the copies of snapshots on this machine's disk."""
        super().stop()
        if "store" in self.__dict__:  # otherwise nothing was read or written
            self.store.close()
