"""A collection in partitions answers as the same collection in one directory, before and after pending deltas.

Neighbours are compared exactly. ChromaDB's search is approximate, but it examines at least 100 candidates (its
`ef_search`), so it examines every entry of an index as small as these.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.pending.collection import FreshCollection
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.rows.id_ranges import ranges
from tests.builders import NOW, a_delta
from tests.differential.fresh_answers import FIELDS, assert_equal_queries
from tests.differential.histories import IDS, SPACES
from tests.differential.random_filters import RandomFilters
from tests.differential.test_fresh_filters import written
from tests.differential.test_fresh_reads import WRITES, Drop, Write, quiet, vector
from tests.partitioned import PartitionedBucket

MANY = [f"id-{number:02}" for number in range(60)]
FILTERS = 150


class Reads(NamedTuple):
    """One collection as one directory, and in partitions that begin at `firsts`."""

    single: FreshCollection
    divided: FreshCollection
    firsts: Sequence[str]

    def in_order(self, ids: list[str]) -> list[str]:
        """Return ids in the order of one directory as partitions have them: those of each partition together."""
        return [each for ids_of in ranges(self.firsts) for each in ids if ids_of.holds(each)]


@contextmanager
def reading(bucket: PartitionedBucket, firsts: Sequence[str]) -> Iterator[Reads]:
    with ExitStack() as stack:
        single, divided = FreshReader(), FreshReader()
        stack.callback(single.close)
        stack.callback(divided.close)
        yield Reads(
            stack.enter_context(single.reading(bucket.single.services, "docs")),
            stack.enter_context(divided.reading(bucket.divided.services, "docs")),
            firsts,
        )


def assert_equal_gets(reads: Reads, filters: Filters, questions: Vector) -> bool:
    """Compare whole answers and pages. Return whether the filters are valid."""
    single, divided = (_records(each, filters) for each in (reads.single, reads.divided))
    assert (single is None) == (divided is None), filters
    if single is None or divided is None:
        return False
    ids = reads.in_order(list(single))
    assert (list(divided), divided) == (ids, single), filters
    for limit, offset in ((1, None), (3, 2), (None, 3), (4, len(ids) - 2), (5, len(ids)), (len(ids) + 1, 0), (0, 0)):
        page = reads.divided.get(filters, limit=limit, offset=max(0, offset or 0), include=[])["ids"]
        begin = max(0, offset or 0)
        assert page == ids[begin : None if limit is None else begin + limit], (filters, limit, offset)
    for n_results in (2, len(ids) + 5):
        assert_equal_queries(reads.divided, reads.single, questions, filters, n_results=n_results)
    return True


def _records(collection: FreshCollection, filters: Filters) -> dict[str, Any] | None:
    try:
        found: Any = collection.get(filters, limit=None, offset=None, include=FIELDS)
    except InvalidRequestError:
        return None
    rows = zip(*(found[name] for name in FIELDS), strict=True)
    return {
        row_id: (np.asarray(row[0], dtype=np.float32).tolist(), *row[1:])
        for row_id, row in zip(found["ids"], rows, strict=True)
    }


def test_random_filters_select_the_same_records_in_partitions(tmp_path: Path) -> None:
    made = RandomFilters(2)
    firsts = ["", "id-13", "id-14", "id-40", "later"]
    bucket = PartitionedBucket(tmp_path, firsts)
    bucket.compact(written(made, MANY[:40], at=NOW), written(made, MANY[:20:3], at=NOW + 1))
    bucket.write(written(made, MANY[30:60:3], at=NOW + 2), a_delta(deletes=MANY[18:24], at=NOW + 3))
    accepted = 0
    with reading(bucket, firsts) as reads:
        assert reads.divided.snapshot_id == reads.single.snapshot_id
        for number in range(FILTERS):
            filters = made.filters(MANY) if number else Filters()
            accepted += assert_equal_gets(reads, filters, np.array([[0.3, -0.2, 0.9]], dtype=np.float32))
    assert accepted > FILTERS / 2


@settings(quiet, max_examples=12)
@given(
    events=st.lists(st.one_of(WRITES, WRITES, st.just("compact")), min_size=1, max_size=5),
    drop=st.sampled_from((None, None, None, Drop(1), Drop(4))),
    firsts=st.sets(st.sampled_from(IDS), min_size=1, max_size=3),
    space=SPACES,
)
def test_partitions_answer_as_one_directory(
    events: list[Write | str], drop: Drop | None, firsts: set[str], space: Space
) -> None:
    begins = ["", *sorted(firsts)]
    with TemporaryDirectory() as parent:
        bucket = PartitionedBucket(Path(parent), begins)
        bucket.compact(a_delta({"a": [1, 0, 0], "ü": [0, 1, 0]}, header={"space": space}, at=NOW - 9))
        for number, event in enumerate(events):
            if isinstance(event, str):
                bucket.compact()
            else:
                bucket.write(event.delta(number, space))
        if drop is not None:
            bucket.write(drop.delta(99, space), a_delta({"b": [1, 1, 0]}))
        with reading(bucket, begins) as reads:
            assert reads.divided.count() == reads.single.count()
            assert reads.divided.description == reads.single.description
            questions = np.stack([vector(number) for number in (1, 4, 12)])
            ids = random.Random(len(events)).sample(IDS, 5)
            for filters in (Filters(), Filters(ids=ids), Filters(where={"n": {"$ne": 1}}), Filters(["none"])):
                assert assert_equal_gets(reads, filters, questions)
