"""Random filters select the same records in a fresh read as in the snapshot after a compaction."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pytest

from chromadb_compaction.pending import filtering
from chromadb_compaction.pending.collection import FreshCollection
from chromadb_compaction.pending.reader import FreshReader
from tests.builders import NOW, BuiltDelta, a_delta
from tests.differential.fresh_answers import assert_equal_gets, assert_equal_queries
from tests.differential.random_filters import RandomFilters
from tests.fakes.services import new_fakes
from tests.passes import compact

IDS = [f"id-{number}" for number in range(60)]
FILTERS, CASES = 1_600, 16
QUESTIONS = np.array([[0.3, -0.2, 0.9]], dtype=np.float32)


class Reads(NamedTuple):
    """One collection before and after the compaction of its pending deltas."""

    fresh: FreshCollection
    compacted: FreshCollection


@pytest.fixture(scope="module")
def reads(request: pytest.FixtureRequest) -> Iterator[Reads]:
    """A third of the records only published, a third only pending, a third replaced, some deleted.

    With "api", the pending rows are written by ChromaDB's API, as on a release that is not proven.
    """
    reason = None if request.param == "tables" else "not proven"
    with ExitStack() as stack:
        if reason:
            stack.enter_context(patch.object(filtering, "incompatibility", lambda *_: reason))
        cache = stack.enter_context(TemporaryDirectory())
        fakes = new_fakes(chromadb_cache_dir=Path(cache))
        fresh, after = FreshReader(), FreshReader()
        stack.callback(fresh.close)
        stack.callback(after.close)
        made = RandomFilters(1)
        compact(fakes, written(made, IDS[:40], at=NOW), written(made, IDS[:20:3], at=NOW + 1))
        for number in range(20, 60, 4):
            written(made, IDS[number : number + 4], at=NOW + number).put_into(fakes.objects)
        a_delta(deletes=IDS[18:24], at=NOW + 99).put_into(fakes.objects)
        found = stack.enter_context(fresh.reading(fakes.services, "docs"))
        assert (found.pending.left, found.count()) == (0, 54)
        compact(fakes)
        yield Reads(found, stack.enter_context(after.reading(fakes.services, "docs", read_level="snapshot")))


def written(made: RandomFilters, ids: list[str], *, at: float) -> BuiltDelta:
    documents = {row_id: made.document() for row_id in ids}
    return a_delta(
        {row_id: [random.Random(f"{row_id}{at}").uniform(-1, 1) for _ in range(3)] for row_id in ids},
        documents={row_id: text for row_id, text in documents.items() if text is not None},
        metadatas={row_id: metadata for row_id in ids if (metadata := made.metadata()) is not None},
        at=at,
    )


@pytest.mark.parametrize(
    ("reads", "case"),
    [*(("tables", case) for case in range(CASES)), *(("api", case) for case in range(3))],
    indirect=["reads"],
)
def test_random_filters_select_the_same_records(reads: Reads, case: int) -> None:
    made, accepted, selective = RandomFilters(1000 + case), 0, 0
    for number in range(FILTERS // CASES):
        filters = made.filters(IDS)
        if assert_equal_gets(reads.fresh, reads.compacted, filters, include=["metadatas"]):
            accepted += 1
            ids = reads.compacted.get(filters, limit=None, offset=None, include=[])["ids"]
            selective += 0 < len(ids) < reads.compacted.count()
            if number % 4 == 0:
                page = {"limit": 3, "offset": number % 5}
                assert_equal_gets(reads.fresh, reads.compacted, filters, include=["documents"], **page)
                assert_equal_queries(reads.fresh, reads.compacted, QUESTIONS, filters, n_results=3)
    assert accepted > FILTERS / CASES / 2, "most filters are valid"
    assert selective > FILTERS / CASES / 4, "many filters divide the records"
