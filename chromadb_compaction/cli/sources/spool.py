"""The spool: the records of one collection on disk, so that ChromaDB can be closed before they become deltas.

Each page is a line of JSON and the float32 matrix of its embeddings. Reading it runs no code of its content. Arrow is
not used, because loading it takes memory while ChromaDB's index is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chromadb_compaction.cli.sources.records import Records


class SpoolWriter:
    """A writer of pages. Every page has an embedding for every record."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")

    def write(self, page: Records) -> None:
        """Append a page."""
        vectors = np.ascontiguousarray(page.embeddings, dtype="<f4")
        columns = [vectors.shape, page.ids, page.documents, page.metadatas, page.uris, page.size]
        self._file.write(json.dumps(columns).encode() + b"\n")
        self._file.write(vectors.data)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def read_spool(path: Path) -> Iterator[Records]:
    """Yield the pages, and remove the file afterwards."""
    with path.open("rb") as file:
        for line in file:
            (rows, dimension), ids, documents, metadatas, uris, size = json.loads(line)
            vectors = np.frombuffer(file.read(4 * rows * dimension), dtype="<f4").reshape(rows, dimension)
            yield Records(ids, [False] * rows, vectors, documents, metadatas, uris, size)
    path.unlink()
