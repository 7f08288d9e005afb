"""Threads that share one reader, while deltas are written and compacted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.pending.reader import FreshReader
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import compact

SECONDS = 60
QUESTION = np.array([[0.0, 0.0]], dtype=np.float32)


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return new_fakes(chromadb_cache_dir=tmp_path / "cache")


def test_threads_that_filter_while_deltas_arrive_see_what_was_written_before(fakes: Fakes) -> None:
    reader, ended = FreshReader(), threading.Event()
    written = 0

    def write(number: int) -> None:
        nonlocal written
        metadatas = {f"{number}-{row}": {"even": number % 2 == 0} for row in range(20)}
        delta = a_delta({row_id: [number, 1] for row_id in metadatas}, metadatas=metadatas, at=NOW + number)
        delta.put_into(fakes.objects)
        written = number

    def read() -> int:
        reads = 0
        while not ended.is_set():
            before = written
            with reader.reading(fakes.services, "docs", refresh=True) as collection:
                found = collection.get(Filters(where={"even": True}), limit=None, offset=None, include=["metadatas"])
                assert len(found["ids"]) >= 20 * (before // 2)
                assert all(each["even"] for each in found["metadatas"] or [])
                assert collection.count() >= 20 * before
                nearest = collection.query(QUESTION, n_results=3, filters=Filters(), include=["distances"])
                assert {row_id.partition("-")[0] for row_id in nearest["ids"][0]} == {"1"}
            reads += 1
        return reads

    write(1)
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for number in range(2, 14):
                write(number)
                if number % 5 == 0:
                    compact(fakes)
        finally:
            ended.set()
        assert all(each.result(SECONDS) > 0 for each in readers)
    reader.close()
    assert not [path for path in (Path(fakes.settings.chromadb_cache_dir) / "scratch").iterdir() if path.is_dir()]


def test_reads_at_the_same_time_share_one_list(fakes: Fakes) -> None:
    reader, together = FreshReader(), threading.Barrier(4)
    a_delta({"a": [1, 0]}).put_into(fakes.objects)

    def read() -> int:
        together.wait()
        with reader.reading(fakes.services, "docs") as collection:
            return collection.count()

    with ThreadPoolExecutor(4) as pool:
        counts = [pool.submit(read) for _ in range(4)]
        assert [each.result(SECONDS) for each in counts] == [1] * 4
    reader.close()
    assert sum(call == "list" and key == "delta/docs/" for call, key in fakes.objects.calls) == 1
