"""Many small calls to AWS at once: their cost is waiting, not work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

THREADS = 32

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_threads(call: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """Return `call` of each item, in order. The first error is raised, and calls that have not begun never do."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        return list(pool.map(call, items))
    finally:
        pool.shutdown(cancel_futures=True)
