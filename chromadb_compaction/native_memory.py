"""Giving freed memory back to the system: Arrow, SQLite and ChromaDB each keep what they freed, for themselves."""

from __future__ import annotations

import ctypes

import pyarrow as pa

_LIBC = ctypes.CDLL(None)
# Only glibc has it; others give back by themselves, or not at all.
_TRIM = getattr(_LIBC, "malloc_trim", None)


def trim_memory() -> None:
    """Return freed memory to the system, as far as the allocators can."""
    pa.default_memory_pool().release_unused()
    if _TRIM is not None:
        _TRIM(0)


def use_system_memory_pool() -> None:
    """Have Arrow give memory back as it is freed, from now on: its own pool keeps some 50 MB of it for a while."""
    pa.set_memory_pool(pa.system_memory_pool())
