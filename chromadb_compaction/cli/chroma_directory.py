"""An existing ChromaDB directory as a source of records: the way in for whoever uses ChromaDB already."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from chromadb_compaction.adapters.chroma import SQLITE_FILE, Collection, open_collection, open_directory
from chromadb_compaction.cli.record_files import CHUNK, Rows, Source
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.manifest import Space

SPACES: dict[str, Space] = {"l2": "l2", "cosine": "cosine", "ip": "ip"}


class ChromaDirectory(Source):
    """One collection of the directory: the one of that name, or the only one. The directory itself stays untouched."""

    def __init__(self, path: Path, collection: str) -> None:
        """Take a look into a copy: even a query writes to a ChromaDB directory."""
        super().__init__(path)
        self.size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if not (path / SQLITE_FILE).is_file():
            raise InvalidRequestError(f"{path} is no ChromaDB directory: it has no {SQLITE_FILE}")
        with self._copied() as copy:
            self._collection = _choose(copy, path, collection)
            with open_collection(copy, self._collection) as found:
                self._records = max(found.count(), 1)
                self.space = SPACES.get(str((found.configuration.get("hnsw") or {}).get("space")))

    def rows(self) -> Iterator[Rows]:
        """Yield all records, by id as ChromaDB lists them."""
        with self._copied() as copy, open_collection(copy, self._collection) as found:
            ids = found.get(include=[])["ids"]
            for start in range(0, len(ids), CHUNK):
                some = ids[start : start + CHUNK]
                yield _records(found, some, size=self.size * len(some) // self._records)

    @contextmanager
    def _copied(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="chromadb-compaction-") as scratch:
            yield Path(shutil.copytree(self.path, Path(scratch) / "copy"))


def _choose(directory: Path, shown: Path, wanted: str) -> str:
    with open_directory(directory) as client:
        names = sorted(collection.name for collection in client.list_collections())
    if wanted in names:
        return wanted
    if len(names) == 1:
        return names[0]
    held = ", ".join(names) if names else "none"
    raise InvalidRequestError(f"{shown} has no collection {wanted!r}; it has: {held}")


def _records(collection: Collection, ids: list[str], *, size: int) -> Rows:
    found: Any = collection.get(ids=ids, include=["embeddings", "documents", "metadatas"])
    return Rows(
        ids=found["ids"],
        deleted=[False] * len(found["ids"]),
        embeddings=np.asarray(found["embeddings"], dtype=np.float32),
        documents=found["documents"],
        metadatas=found["metadatas"],
        size=size,
    )
