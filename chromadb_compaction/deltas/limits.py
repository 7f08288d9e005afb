"""The largest row that a delta may have. Every producer and MergeBatch check the same limits.

They keep a fold's memory within what its capacity check expects (fold.capacity). ChromaDB itself has no such limits.
"""

from __future__ import annotations

from typing import Final

MAX_DIMENSION: Final = 16_384
"""The longest vector. ChromaDB's index reserves memory for 100 vectors when it is created: 6.5 MB at this length."""

MAX_METADATA_KEYS: Final = 1_000
"""The most metadata keys of one row."""

MAX_METADATA_VALUES: Final = 10_000
"""The most metadata values of one row, the items of lists included. Each takes up to 1 KB while it is folded."""

VALUE_BYTES: Final = 64
"""The least to count for one metadata value in the size of a delta: ChromaDB stores each as a row of a table."""

MAX_ROW_BYTES: Final = 16 * 1024 * 1024
"""The most bytes of one row: id, document, metadata and URI in UTF-8, and four for each number of the vector."""

MAX_SQUARED_LENGTH: Final = 3.4e38 / 4
"""The longest vector's length, squared: no distance between two vectors overflows float32.

The distances are at most four times this (l2, by the triangle inequality) or this (ip); cosine sums the squares. The
largest float32 is 3.403e38. The difference is more than the rounding errors of MAX_DIMENSION additions.
"""
