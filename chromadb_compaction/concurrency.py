"""Many small calls to AWS at once, which spend their time waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(call: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return `call` of each item, in order. After an error, which is raised, no further call begins."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        return list(pool.map(call, items))
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(
    call: Callable[[Item], Result], items: Iterable[Item], *, weigh: Callable[[Item], int], most: int, threads: int
) -> Generator[Result, None, None]:
    """Yield `call` of each item, in order, while later calls already run.

    The items that have begun and are not yet finished by the caller weigh at most `most` together. An item that weighs
    more is handled alone. An error is raised in its order, and after it no further call begins.
    """
    begun: deque[tuple[Future[Result], int]] = deque()
    total = 0
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            weight = weigh(item)
            while begun and total + weight > most:
                future, finished = begun.popleft()
                yield future.result()
                total -= finished
            begun.append((pool.submit(call, item), weight))
            total += weight
        while begun:
            yield begun.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)
