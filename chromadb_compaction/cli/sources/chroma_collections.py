"""ChromaDB collections as sources of records, read in pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np

from chromadb_compaction.chroma.client import Collection
from chromadb_compaction.cli.sources.chroma_instances import ChromaInstance
from chromadb_compaction.cli.sources.collection_settings import configured_space, stated_collection
from chromadb_compaction.cli.sources.measured_space import measured_space
from chromadb_compaction.cli.sources.records import Records, RecordSource
from chromadb_compaction.cli.sources.spool import SpoolWriter, read_spool
from chromadb_compaction.errors import CompactionError
from chromadb_compaction.rows.native_memory import trim_heap

PAGE_ROWS = 500
PAGE_VALUES = 100_000
"""Vector components in one page: ChromaDB makes Python floats of them, 32 bytes each."""

_NO_RECORDS = Records([], [], [], [], [], [])


class ChromaCollection(RecordSource):
    """One collection of a ChromaDB instance. Its `size` is known once the first page is read.

    Args:
        instance: The directory or server that holds it.
        name: Its name there.
        collection: The collection that its records are put into.
    """

    def __init__(self, instance: ChromaInstance, name: str, collection: str) -> None:
        self.name = f"the collection {name} of {instance.location}"
        self.location = f"{instance.location} {name}"
        self.collection = collection
        self.size = 0
        self._instance = instance
        self._name = name
        with instance.client() as client:
            found = client.get_collection(name, embedding_function=None)
            segment = instance.segment_metadata(found)
            self.stated = stated_collection(found, self.name, segment)
            self.dimension = _dimension(found)
            self.needs_space = self.dimension is not None
            self.space = configured_space(found, segment)
            if self.needs_space:
                self.space = measured_space(found, configured=self.space)
        trim_heap()
        function = self.stated.function
        self.embedding_function = function.name if function else None

    def read(self) -> Iterator[Records]:
        """Yield the records in pages, in the order in which ChromaDB keeps them.

        While a directory is open, ChromaDB holds its whole index in memory. So all pages first go to the spool, and
        only progress is yielded; then the directory is closed, and the records come from the spool.
        """
        if self._instance.spool is None:
            yield from self._pages(passes=1)
            return
        with closing(SpoolWriter(self._instance.spool)) as spool:
            for page in self._pages(passes=2):
                spool.write(page)
                yield _NO_RECORDS._replace(size=page.size)
        trim_heap()
        yield from read_spool(self._instance.spool)

    def _pages(self, *, passes: int) -> Iterator[Records]:
        with self._instance.client() as client:
            found = client.get_collection(self._name, embedding_function=None)
            records = found.count()
            self.size = passes * records
            step = _page_rows(found)
            seen = []
            for offset in range(0, records, step):
                page = _page(found, min(step, records - offset), offset)
                seen.append(hash(tuple(page.ids)))
                yield page
            if self._instance.shared and seen != list(_page_hashes(found, records, step)):
                raise CompactionError(
                    f"records were deleted from {self.name} while it was read, so other records may be missing",
                    next_step="put it with --restart while nobody deletes from it",
                )


def _page_rows(collection: Collection) -> int:
    return max(1, min(PAGE_ROWS, PAGE_VALUES // (_dimension(collection) or 1)))


def _dimension(collection: Collection) -> int | None:
    first: Any = collection.get(limit=1, include=["embeddings"])["embeddings"]
    return len(first[0]) if len(first) else None


def _page(collection: Collection, limit: int, offset: int) -> Records:
    found: Any = collection.get(limit=limit, offset=offset, include=["embeddings", "documents", "metadatas", "uris"])
    count = len(found["ids"])
    return Records(
        ids=found["ids"],
        deleted=[False] * count,
        embeddings=np.asarray(found["embeddings"], dtype=np.float32),
        documents=found["documents"],
        metadatas=found["metadatas"],
        uris=found["uris"],
        size=count,
    )


def _page_hashes(collection: Collection, records: int, step: int) -> Iterator[int]:
    """Yield a hash of the ids of each page, to compare with those that were read."""
    for offset in range(0, records, step):
        yield hash(tuple(collection.get(limit=min(step, records - offset), offset=offset, include=[])["ids"]))
