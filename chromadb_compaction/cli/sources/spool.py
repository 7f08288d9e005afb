"""The spool: the records of one collection on disk, so that ChromaDB can be closed before they become deltas.

It is a stream of Arrow record batches, one for each page. Reading it runs no code of its content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chromadb_compaction.cli.sources.records import Records

if TYPE_CHECKING:
    import pyarrow as pa


class SpoolWriter:
    """A writer of pages. Every page has an embedding for every record, all of one length."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: Any = None

    def write(self, page: Records) -> None:
        """Append a page."""
        import pyarrow as pa

        batch = _batch(page)
        if self._stream is None:
            self._stream = pa.ipc.new_stream(str(self._path), batch.schema)
        self._stream.write_batch(batch)

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._stream.close()


def read_spool(path: Path) -> Iterator[Records]:
    """Yield the pages, and remove the file afterwards. A file that does not exist has none."""
    import pyarrow as pa

    if path.exists():
        with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield _page(batch)
        path.unlink()


def _batch(page: Records) -> pa.RecordBatch:
    import pyarrow as pa

    vectors = np.ascontiguousarray(page.embeddings, dtype=np.float32)
    metadatas = [None if metadata is None else json.dumps(metadata) for metadata in page.metadatas]
    embeddings = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.RecordBatch.from_arrays(
        [
            pa.array(page.ids, pa.string()),
            embeddings,
            pa.array(page.documents, pa.string()),
            pa.array(metadatas, pa.string()),
            pa.array([page.size] * len(page.ids), pa.int64()),
        ],
        names=["id", "embedding", "document", "metadata", "size"],
    )


def _page(batch: pa.RecordBatch) -> Records:
    column: Any = batch.column("embedding")
    columns: Any = (batch.column(name).to_pylist() for name in ("id", "document", "metadata", "size"))
    ids, documents, metadatas, sizes = columns
    return Records(
        ids=ids,
        deleted=[False] * len(ids),
        embeddings=column.flatten().to_numpy().reshape(len(ids), -1),
        documents=documents,
        metadatas=[None if text is None else json.loads(text) for text in metadatas],
        size=sizes[0],
    )
