"""Fingerprints: the content of a row as 32 bytes, and of a whole collection as one sum.

The sum does not depend on the order of the rows. So a fold can prove that it lost and invented nothing:
next = base - replaced - deleted + added, modulo 2^128 (manifest.Conservation).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import orjson

FINGERPRINT_BYTES = 32
VECTOR_BYTES = 16
"""The first bytes of a fingerprint depend on the vector only, the others on document, metadata and URI."""
DELETED = bytes(FINGERPRINT_BYTES)
"""The fingerprint of a delete. It is smaller than any other, so a delete loses a tie (rows.merging)."""

_MODULUS = 2**128


def fingerprint(vector: bytes, document: str | None, metadata: str | None, uri: str | None = None) -> bytes:
    """Return the fingerprint of a live row.

    `vector` is float32 values in little-endian order, `metadata` canonical JSON (deltas.records.check_metadata).
    Without a URI, the fingerprint is what it was before there were URIs.
    """
    parts = [orjson.dumps(document), b"null" if metadata is None else metadata.encode()]
    if uri is not None:
        parts.append(orjson.dumps(uri))
    texts = b"[" + b",".join(parts) + b"]"
    return vector_fingerprint(vector) + blake2b(texts, digest_size=FINGERPRINT_BYTES - VECTOR_BYTES).digest()


def vector_fingerprint(vector: bytes) -> bytes:
    """Return the first VECTOR_BYTES of the fingerprint of every row with this vector."""
    return blake2b(vector, digest_size=VECTOR_BYTES).digest()


def row_sum(row_id: str, row_fingerprint: bytes) -> int:
    """Return the summand of one live row: 128 bits of a hash of its id and fingerprint."""
    name = row_id.encode()
    digest = blake2b(len(name).to_bytes(8, "big") + name + row_fingerprint, digest_size=16).digest()
    return int.from_bytes(digest, "big")


def sum_rows(rows: Iterable[tuple[str, bytes]]) -> int:
    """Return the sum of row_sum over (id, fingerprint) pairs, modulo 2^128."""
    return sum(row_sum(row_id, row_fingerprint) for row_id, row_fingerprint in rows) % _MODULUS


def hex128(total: int) -> str:
    """Return a sum as the 32 hexadecimal digits that manifests store."""
    return f"{total % _MODULUS:032x}"
