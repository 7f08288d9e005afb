"""ChromaDB's own collections as sources of records: the way in for who has some."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chromadb_compaction.chroma.client import Collection
from chromadb_compaction.cli.sources.chroma_places import Place
from chromadb_compaction.cli.sources.files import Rows, Source
from chromadb_compaction.errors import CompactionError
from chromadb_compaction.manifest import Space

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
