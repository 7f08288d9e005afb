"""The digests that recognise the records of a source when it is read again."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from chromadb_compaction.cli.sources.records import Records


class RowDigests:
    """The running digest of a source's records, in their order. It does not depend on how they are grouped."""

    def __init__(self) -> None:
        self._last = b""

    def after(self, records: Records) -> list[str]:
        """Return the digest after each of the next records."""
        digests = []
        for row_id, deleted, embedding, document, metadata, uri in zip(*records[:-1], strict=True):
            # Sorted, because ChromaDB returns the metadata of a record in a different order each time.
            # Without a URI, the digest is what it was before there were URIs.
            texts = [row_id, deleted, document, metadata, *([] if uri is None else [uri])]
            text = json.dumps(texts, sort_keys=True, default=repr).encode()
            vector = embedding.tobytes() if isinstance(embedding, np.ndarray) else repr(embedding).encode()
            content = b"%d %b%b" % (len(text), text, vector)
            self._last = hashlib.blake2b(self._last + content, digest_size=16).digest()
            digests.append(self._last.hex())
        return digests
