"""The form of a delta that drops its collection, so that it is found without reading the others."""

from __future__ import annotations

from typing import Final

DROP_BYTES: Final = 512
"""The largest delta that drops a collection. It is JSON Lines, without rows.

A pass must know its drops before it merges anything, so it reads every delta that may be one. A drop has 100 bytes.
With one row, JSON Lines have 50 bytes for a delete, and for an upsert 70 to 90 (2 dimensions), 220 to 390 (32) or
1,700 to 3,900 (384). Parquet has 1,400 or more. So only the smallest JSON Lines are read twice.
"""
DROP_SUFFIX: Final = ".jsonl.gz"


def may_drop(key: str, size: int) -> bool:
    """Return whether a delta of `size` bytes may drop its collection."""
    return key.endswith(DROP_SUFFIX) and size <= DROP_BYTES
