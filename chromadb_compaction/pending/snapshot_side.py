"""The snapshot's records in a fresh read: those that no pending row hides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chromadb_compaction.chroma.client import OpenCollection
from chromadb_compaction.chroma.query import Filters, matching, nearest
from chromadb_compaction.chroma.records.columns import Columns, chosen, columns_of, columns_of_question, empty
from chromadb_compaction.deltas.records import Vector

IDS_AT_ONCE = 10_000
"""SQLite has 32,766 variables in one statement."""


class Page(NamedTuple):
    """Some of the records that pass a filter.

    Attributes:
        records: The records of the page.
        total: The number of all records that pass. None if the page is full, because then it was not counted.
    """

    records: Columns
    total: int | None


def existing(collection: OpenCollection | None, ids: Sequence[str]) -> frozenset[str]:
    """Return those of `ids` that the collection has."""
    if collection is None:
        return frozenset()
    parts = (ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE))
    return frozenset(found for part in parts for found in _all(collection, Filters(ids=list(part))))


class SnapshotSide:
    """The visible records of a collection.

    Args:
        collection: The open collection. None: it has no record.
        hidden: The ids of its records that are not visible. All of them exist.
    """

    def __init__(self, collection: OpenCollection | None, hidden: frozenset[str]) -> None:
        self._collection = collection
        self._hidden = hidden

    def count(self) -> int:
        """Return the number of visible records."""
        return 0 if self._collection is None else self._collection.count() - len(self._hidden)

    def page(self, filters: Filters, *, limit: int | None, offset: int, include: Sequence[str]) -> Page:
        """Return at most `limit` visible records that pass, in the collection's order, from the one at `offset` on."""
        names = ("ids", *include)
        visible = self._visible(filters)
        if self._collection is None or (filters.ids and not visible.ids):
            return Page(empty(names), total=0)
        if self._hidden and visible.ids is None:
            return self._sparse_page(self._collection, visible, limit=limit, offset=offset, include=include)
        found = matching(self._collection, visible, limit=limit, offset=offset, include=list(include))
        records = columns_of(dict(found), names)
        count = len(records["ids"])
        if limit is not None and count == limit:
            return Page(records, total=None)
        return Page(records, total=offset + count if count or not offset else len(_all(self._collection, visible)))

    def nearest(self, vectors: Vector, *, n_results: int, filters: Filters, include: Sequence[str]) -> list[Columns]:
        """Return at least the `n_results` nearest visible records of each question, or all, the nearest first."""
        names = ("ids", *include)
        visible = self._visible(filters)
        if self._collection is None or (filters.ids and not visible.ids):
            return [empty(names) for _ in vectors]
        hidden = self._hidden if visible.ids is None else frozenset[str]()
        asked = min(2 * n_results, n_results + len(hidden))
        while True:
            found = nearest(self._collection, vectors, n_results=asked, filters=visible, include=list(include))
            kept = [_kept(ids, hidden) for ids in found["ids"]]
            enough = (len(ids) < asked or len(at) >= n_results for ids, at in zip(found["ids"], kept, strict=True))
            if all(enough):
                results = (columns_of_question(dict(found), number, names) for number in range(len(vectors)))
                return [chosen(each, at) for each, at in zip(results, kept, strict=True)]
            asked = min(2 * asked, n_results + len(hidden))

    def _sparse_page(
        self, collection: OpenCollection, filters: Filters, *, limit: int | None, offset: int, include: Sequence[str]
    ) -> Page:
        """Return a page of records between which others are hidden."""
        most = None if limit is None else offset + limit + len(self._hidden)
        ids = _all(collection, filters, limit=most)
        visible = _kept(ids, self._hidden)
        wanted = visible[offset:] if limit is None else visible[offset : offset + limit]
        total = len(visible) if most is None or len(ids) < most else None
        names = ("ids", *include)
        if not wanted:
            return Page(empty(names), total)
        first, end = wanted[0], wanted[-1] + 1
        found = matching(collection, filters, limit=end - first, offset=first, include=list(include))
        return Page(chosen(columns_of(dict(found), names), (at - first for at in wanted)), total)

    def _visible(self, filters: Filters) -> Filters:
        if not filters.ids:
            return filters  # ChromaDB refuses an empty list
        return filters._replace(ids=[each for each in dict.fromkeys(filters.ids) if each not in self._hidden])


def _kept(ids: Iterable[str], hidden: frozenset[str]) -> list[int]:
    return [at for at, each in enumerate(ids) if each not in hidden]


def _all(collection: OpenCollection, filters: Filters, *, limit: int | None = None) -> list[str]:
    return matching(collection, filters, limit=limit, offset=None, include=[])["ids"]
