"""A collection over several open directories, with the answers of one."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from chromadb_compaction.chroma.client import OpenCollection
from chromadb_compaction.chroma.records.columns import (
    Columns,
    columns_of,
    columns_of_question,
    get_result,
    joined,
    nearest_of,
    query_result,
)
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange, ranges

if TYPE_CHECKING:
    from chromadb_compaction.chroma.client import GetResult, Include, QueryResult, Where, WhereDocument

THREADS: Final = 4
"""The directories that one query asks at once. ChromaDB computes without Python's lock."""

_THREADS = ThreadPoolExecutor(THREADS, thread_name_prefix="partition")

Answer = TypeVar("Answer")


class Partition(NamedTuple):
    """A range of ids, and the open directory that holds their records. None: it holds no record."""

    ids: IdRange
    collection: OpenCollection | None


class _Asked(NamedTuple):
    """A directory, and the ids that it is asked for. None: all."""

    collection: OpenCollection
    ids: list[str] | None


class PartitionedCollection:
    """A collection whose records are divided by ranges of ids among two or more directories. Threads may share it.

    - The order of `get` is that of the partitions and, within each, ChromaDB's.
    - `query` asks each directory, and merges what they find by distance. Records of one distance are in the order of
      `get`, as in one directory. Each directory searches an index of its own, so a search over several misses no more
      neighbours than one over a single directory.
    - An invalid argument raises ChromaDB's error.

    Args:
        directories: The first id of each, in the order of the ids, and the open directory.
    """

    def __init__(self, directories: Sequence[tuple[str, OpenCollection]]) -> None:
        self._firsts = [first for first, _ in directories]
        self._collections = [collection for _, collection in directories]

    @property
    def partitions(self) -> list[Partition]:
        """The directories with their ranges, which together are all ids."""
        firsts = ["", *self._firsts[1:]]
        return [Partition(*each) for each in zip(ranges(firsts), self._collections, strict=True)]

    def count(self) -> int:
        """Return the number of records."""
        return sum(each.count() for each in self._collections)

    def get(
        self,
        *,
        ids: list[str] | None = None,
        where: Where | None = None,
        limit: int | None = None,
        offset: int | None = None,
        where_document: WhereDocument | None = None,
        include: Include,
    ) -> GetResult:
        """Return the records that pass, of those at most `limit` from the one at `offset` on, as ChromaDB's `get`."""
        names = ("ids", *include)
        found: list[Columns] = []
        for each in self._asked(ids):
            page = each.collection.get(
                ids=each.ids,
                where=where,
                limit=limit,
                offset=offset,
                where_document=where_document,
                include=include,
            )
            found.append(columns_of(dict(page), names))
            count = len(page["ids"])
            if limit is not None:
                limit -= count
                if limit <= 0:
                    break
            if offset:
                offset = 0 if count else offset - _passing(each, where, where_document)
        return get_result(joined(*found), include)

    def query(
        self,
        *,
        query_embeddings: Vector,
        n_results: int,
        ids: list[str] | None = None,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        include: Include,
    ) -> QueryResult:
        """Return the `n_results` nearest records of each question, as ChromaDB's `query`."""
        fields: Include = list(dict.fromkeys([*include, "distances"]))

        def ask(each: _Asked) -> QueryResult:
            return each.collection.query(
                query_embeddings=query_embeddings,
                n_results=n_results,
                ids=each.ids,
                where=where,
                where_document=where_document,
                include=fields,
            )

        found = _in_threads(ask, list(self._asked(ids)))
        names = ("ids", *fields)
        questions = (
            joined(*(columns_of_question(dict(each), number, names) for each in found))
            for number in range(len(query_embeddings))
        )
        return query_result([nearest_of(each, n_results) for each in questions], include)

    def _asked(self, ids: list[str] | None) -> Iterator[_Asked]:
        """Yield each directory that may have some of the ids, with those. All directories if there is none or None."""
        if not ids:
            yield from (_Asked(each, ids) for each in self._collections)
            return
        grouped: dict[int, list[str]] = defaultdict(list)
        for each in ids:
            grouped[max(0, bisect_right(self._firsts, each) - 1)].append(each)
        yield from (_Asked(self._collections[number], grouped[number]) for number in sorted(grouped))


def partitions_of(collection: OpenCollection | None) -> list[Partition]:
    """Return the directories of an open collection: one with all ids if it is not partitioned."""
    if isinstance(collection, PartitionedCollection):
        return collection.partitions
    return [Partition(ALL_IDS, collection)]


def _passing(asked: _Asked, where: Where | None, where_document: WhereDocument | None) -> int:
    """Return the number of the directory's records that pass."""
    if asked.ids is None and not where and not where_document:
        return asked.collection.count()
    found = asked.collection.get(ids=asked.ids, where=where, where_document=where_document, include=[])
    return len(found["ids"])


def _in_threads(ask: Callable[[_Asked], Answer], asked: Sequence[_Asked]) -> list[Answer]:
    """Return the answer of each directory, in order. Raise the first one's error, if there is any."""
    if len(asked) == 1:
        return [ask(asked[0])]
    return list(_THREADS.map(ask, asked))
