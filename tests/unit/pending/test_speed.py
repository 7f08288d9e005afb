"""The cost of fresh reads. The best of several attempts counts, because other programs may slow the machine down."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.pending.known import KnownDeltas
from chromadb_compaction.pending.overlay import Overlay
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.pending.selection import Published, select
from chromadb_compaction.rows.run_rows import LEDGER_SCHEMA
from tests.builders import NOW, BuiltDelta, a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import compact

DIMENSION = 384
BUILD_SECONDS = 0.15
"""The most to build an overlay of 2,000 rows from parsed deltas."""
QUERY_FACTOR = 2
"""The most that 1,000 pending rows multiply the time of a query."""

pytestmark = pytest.mark.slow


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return new_fakes(chromadb_cache_dir=tmp_path / "cache")


def rows(count: int, first: int, *, at: float) -> BuiltDelta:
    vectors = np.random.default_rng(first).standard_normal((count, DIMENSION)).astype(np.float32)
    ids = [f"record-{first + number}" for number in range(count)]
    return a_delta(
        dict(zip(ids, vectors.tolist(), strict=True)),
        documents={row_id: f"the quick brown fox {row_id} " * 10 for row_id in ids},
        metadatas={row_id: {"n": number, "kind": f"k{number % 7}"} for number, row_id in enumerate(ids)},
        at=at,
    )


def best(call: Callable[[], object], attempts: int = 60) -> float:
    seconds = []
    for _ in range(attempts):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def test_an_overlay_of_2000_rows_is_built_soon(fakes: Fakes) -> None:
    listed = [rows(100, 100 * number, at=NOW + number).put_into(fakes.objects) for number in range(20)]
    published, known = Published("docs", None, None, LEDGER_SCHEMA.empty_table), KnownDeltas()

    def build() -> None:
        overlay = Overlay(select(listed, published, known, fakes.services), published)
        assert len(overlay.vectors) == len(overlay.positions) == 2000

    assert best(build) < BUILD_SECONDS


def test_1000_pending_rows_do_not_double_the_time_of_a_query(fakes: Fakes) -> None:
    compact(fakes, rows(5000, 0, at=NOW))
    reader, question = FreshReader(), np.ones((1, DIMENSION), dtype=np.float32)

    def query() -> None:
        with reader.reading(fakes.services, "docs") as collection:
            collection.query(question, n_results=10, filters=Filters(), include=["documents", "distances"])

    query()
    without = best(query)
    for number in range(10):
        rows(100, 4500 + 100 * number, at=NOW + 1 + number).put_into(fakes.objects)
    fakes.clock.tick(2)
    query()
    assert best(query) < QUERY_FACTOR * without
    reader.close()
