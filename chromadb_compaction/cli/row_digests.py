"""A digest of all records up to each: what a put that goes on must find unchanged in its source."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from chromadb_compaction.cli.sources.files import Rows


class RowDigests:
    """Goes through a source's records in order. How they are cut into pieces makes no difference."""

    def __init__(self) -> None:
        self._last = b""

    def after(self, rows: Rows) -> list[str]:
        """Return the digest after each of the next records."""
        digests = []
        for row in zip(rows.ids, rows.deleted, rows.embeddings, rows.documents, rows.metadatas, strict=True):
            self._last = hashlib.blake2b(self._last + _bytes(*row), digest_size=16).digest()
            digests.append(self._last.hex())
        return digests


def _bytes(
    row_id: str,
    deleted: bool,  # noqa: FBT001 - columns of a row, in their order
    embedding: Any,  # noqa: ANN401 - a row of a matrix, a list, or nothing
    document: str | None,
    metadata: dict[str, Any] | None,
) -> bytes:
    # Sorted: ChromaDB gives a record's metadata in another order each time.
    text = json.dumps([row_id, deleted, document, metadata], sort_keys=True, default=repr).encode()
    vector = embedding.tobytes() if isinstance(embedding, np.ndarray) else repr(embedding).encode()
    return b"%d %b%b" % (len(text), text, vector)
