"""Many small calls to AWS at once, which spend their time waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, ItemsView, Iterable, Iterator, Mapping, ValuesView
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Generic, TypeVar

THREADS = 32

Item = TypeVar("Item")
Result = TypeVar("Result")
Entry = TypeVar("Entry")


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


class LazyMapping(Mapping[str, Result], Generic[Entry, Result]):
    """Values that are read when they are asked for, and then kept.

    `items` and `values` read in threads, in order, and keep nothing, so that few values are in memory at once.

    Args:
        entries: The entry of each name, from which its value is read. Equal entries have equal values.
        read: Returns the value of a name and its entry.
        known: A mapping whose kept values are kept here too, where the entry is the same.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        read: Callable[[str, Entry], Result],
        known: LazyMapping[Entry, Result] | None = None,
    ) -> None:
        self.entries = entries
        self._read = read
        self._kept: dict[str, Result] = known.kept(entries) if known else {}

    def __getitem__(self, name: str) -> Result:
        if name not in self._kept:
            self._kept[name] = self._read(name, self.entries[name])
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyMapping) and self.entries == other.entries

    __hash__ = None  # type: ignore[assignment] # as any Mapping

    def items(self) -> ItemsView[str, Result]:
        """Return a view that reads the values, some of them ahead."""
        return _LazyItems(self)

    def values(self) -> ValuesView[Result]:
        """Return a view that reads the values, some of them ahead."""
        return _LazyValues(self)

    def kept(self, entries: Mapping[str, Entry]) -> dict[str, Result]:
        """Return the values that were kept and whose entry is the same in `entries`."""
        # A copy, since other threads may add to it.
        kept = self._kept.copy()
        return {name: value for name, value in kept.items() if self.entries[name] == entries.get(name)}

    def peek(self, name: str) -> Result:
        """Return a value without keeping it."""
        return self._kept[name] if name in self._kept else self._read(name, self.entries[name])

    def fetch(self, names: Iterable[str]) -> None:
        """Read and keep, in threads, the values of `names`. Names without an entry are left out."""
        in_threads(self.__getitem__, [name for name in names if name in self.entries])

    def read_ahead(self) -> Iterator[tuple[str, Result]]:
        """Yield each name and its value, in order, without keeping them."""
        values = ahead(self.peek, self.entries, weigh=lambda _: 1, most=THREADS, threads=THREADS)
        with closing(values):
            yield from zip(self.entries, values, strict=True)


class _LazyItems(ItemsView[str, Result]):
    _mapping: LazyMapping[object, Result]

    def __iter__(self) -> Iterator[tuple[str, Result]]:
        return self._mapping.read_ahead()


class _LazyValues(ValuesView[Result]):
    _mapping: LazyMapping[object, Result]

    def __iter__(self) -> Iterator[Result]:
        return (value for _, value in self._mapping.read_ahead())
