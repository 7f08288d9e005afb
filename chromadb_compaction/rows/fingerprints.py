"""What a row holds, as 32 bytes, and what a whole collection holds, as one sum that ignores order."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import orjson

FINGERPRINT_BYTES = 32
VECTOR_BYTES = 16
"""A fingerprint's first bytes speak for the vector, the others for document and metadata."""
DELETED = bytes(FINGERPRINT_BYTES)
"""The fingerprint of a delete: smaller than any other, so that it loses a tie."""

_MODULUS = 2**128


def fingerprint(vector: bytes, document: str | None, metadata: str | None) -> bytes:
    """Return the fingerprint of a live row.

    `vector` is its float32 values in little-endian order, `metadata` the canonical JSON of
    records.check_metadata.
    """
    texts = b"[" + orjson.dumps(document) + b"," + (b"null" if metadata is None else metadata.encode()) + b"]"
    return vector_fingerprint(vector) + blake2b(texts, digest_size=FINGERPRINT_BYTES - VECTOR_BYTES).digest()


def vector_fingerprint(vector: bytes) -> bytes:
    """Return the first VECTOR_BYTES of the fingerprint of any row that has this vector."""
    return blake2b(vector, digest_size=VECTOR_BYTES).digest()


def row_sum(row_id: str, row_fingerprint: bytes) -> int:
    """Return one live row's term in the conservation proof: 128 bits of hash over id and fingerprint."""
    name = row_id.encode()
    digest = blake2b(len(name).to_bytes(8, "big") + name + row_fingerprint, digest_size=16).digest()
    return int.from_bytes(digest, "big")


def sum_rows(rows: Iterable[tuple[str, bytes]]) -> int:
    """Return the sum modulo 2^128 of row_sum over (id, fingerprint) pairs: the same in any order."""
    return sum(row_sum(row_id, row_fingerprint) for row_id, row_fingerprint in rows) % _MODULUS


def hex128(total: int) -> str:
    """Return a sum as the 32 hexadecimal digits that manifests store."""
    return f"{total % _MODULUS:032x}"
