"""Return freed memory to the system: the allocators of Arrow, SQLite and ChromaDB keep it otherwise."""

from __future__ import annotations

import ctypes

_LIBC = ctypes.CDLL(None)
# Only glibc has malloc_trim. Other C libraries return memory on their own, or never.
_TRIM = getattr(_LIBC, "malloc_trim", None)


def trim_memory() -> None:
    """Return freed memory to the system, as far as the allocators can."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    trim_heap()


def trim_heap() -> None:
    """Return freed memory to the system without loading Arrow."""
    if _TRIM is not None:
        _TRIM(0)


def use_system_memory_pool() -> None:
    """Make Arrow free memory at once from now on. Its default pool keeps some 50 MB of freed memory for a while."""
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
