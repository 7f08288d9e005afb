"""Many small calls to AWS at once: their cost is waiting, not work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


def ahead(
    call: Callable[[Item], Answer], items: Iterable[Item], *, weigh: Callable[[Item], int], most: int, threads: int
) -> Iterator[Answer]:
    """Yield `call` of each item, in order, while later calls run already.

    What has begun and the caller has not done with weighs at most `most`, but for a single item that weighs more.
    An error is raised in its turn, and calls that have not begun by then never do.
    """
    begun: deque[tuple[Future[Answer], int]] = deque()
    weight = 0
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            more = weigh(item)
            while begun and weight + more > most:
                less = begun[0][1]
                yield begun.popleft()[0].result()
                weight -= less
            begun.append((pool.submit(call, item), more))
            weight += more
        while begun:
            yield begun.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)
