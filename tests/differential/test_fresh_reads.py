"""A fresh read answers as the snapshot does after a compaction of everything pending, on random histories."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chromadb_compaction.configuration import Space
from chromadb_compaction.layout import delta_key
from chromadb_compaction.pending.reader import FreshReader
from tests.builders import NOW, BuiltDelta, a_delta, a_drop, a_uuid7
from tests.differential.fresh_answers import assert_equal_reads
from tests.differential.histories import DOCUMENTS, IDS, METADATA, SPACES
from tests.fakes.services import Fakes, new_fakes
from tests.passes import Pass, compact

DIMENSION = 3


class Write(NamedTuple):
    """One delta, whose age among the others is not the order in which it arrives."""

    age: int
    upserts: dict[str, tuple[int, str | None, dict[str, Any] | None, str | None]]
    deletes: frozenset[str]
    dimension: int

    def delta(self, number: int, space: Space) -> BuiltDelta:
        """Return the delta that arrives as the one of that number."""
        rows = {row_id: each for row_id, each in self.upserts.items() if row_id not in self.deletes}
        return a_delta(
            {row_id: vector(row[0], self.dimension).tolist() for row_id, row in rows.items()},
            self.deletes,
            documents={row_id: row[1] for row_id, row in rows.items() if row[1] is not None},
            metadatas={row_id: row[2] for row_id, row in rows.items() if row[2] is not None},
            uris={row_id: row[3] for row_id, row in rows.items() if row[3] is not None},
            header={"space": space},
            name=a_uuid7(NOW - self.age, number),
        )


class Drop(NamedTuple):
    """A delta that drops the collection."""

    age: int

    def delta(self, number: int, _space: Space) -> BuiltDelta:
        """Return the delta that arrives as the one of that number."""
        made = a_drop()
        return BuiltDelta(delta_key("docs", str(a_uuid7(NOW - self.age, number)), ".jsonl.gz"), made.body)


class Statement(NamedTuple):
    """A delta without rows that states settings of the collection."""

    age: int
    metadata: dict[str, int]
    ef_search: int | None

    def delta(self, number: int, space: Space) -> BuiltDelta:
        """Return the delta that arrives as the one of that number."""
        hnsw = {"space": space} if self.ef_search is None else {"space": space, "ef_search": self.ef_search}
        stated = {"metadata": self.metadata, "configuration": {"hnsw": hnsw}}
        return a_delta(header={"format": 2, "collection": stated}, name=a_uuid7(NOW - self.age, number))


Event = Write | Drop | Statement | str


def vector(number: int, dimension: int = DIMENSION) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the vector of that number. Number 0 is zero."""
    made = np.random.default_rng(number).standard_normal(dimension).astype(np.float32)
    return made * np.float32(number > 0)


_ROWS = st.tuples(
    st.integers(0, 9),
    st.one_of(st.none(), st.sampled_from(DOCUMENTS)),
    METADATA,
    st.sampled_from((None, None, "", "s3://pictures/a.png")),
)
_DIMENSIONS = st.sampled_from((DIMENSION,) * 12 + (DIMENSION + 1,))
WRITES = st.builds(
    Write,
    st.integers(0, 5),
    st.dictionaries(st.sampled_from(IDS), _ROWS, max_size=6),
    st.frozensets(st.sampled_from(IDS), max_size=2),
    _DIMENSIONS,
)
_DROPS = st.builds(Drop, st.integers(0, 5))
_STATEMENTS = st.builds(
    Statement,
    st.integers(0, 5),
    st.dictionaries(st.sampled_from(("k", "l")), st.integers(0, 3), max_size=2),
    st.sampled_from((None, 10, 200)),
)
_PASSES = st.sampled_from(("compact", "publish"))
EVENTS = st.lists(st.one_of(WRITES, WRITES, WRITES, _PASSES, st.one_of(_DROPS, _STATEMENTS)), min_size=1, max_size=8)


def check(events: list[Event], space: Space) -> None:
    """Play the events, read what is pending, compact all of it, and compare."""
    with TemporaryDirectory() as parent:
        fakes = new_fakes(chromadb_cache_dir=Path(parent))
        fresh, after = FreshReader(), FreshReader()
        try:
            for number, event in enumerate(events):
                happen(event, number, space, fakes)
                if "docs" in fresh.collections(fakes.services):
                    with fresh.reading(fakes.services, "docs") as found:
                        found.count()
            if "docs" not in fresh.collections(fakes.services):
                compact(fakes)
                assert "docs" not in collections_published(after, fakes)
                return
            with fresh.reading(fakes.services, "docs", refresh=True) as found:
                compact(fakes)
                with after.reading(fakes.services, "docs", read_level="snapshot") as expected:
                    dimension = expected.description.dimension or 1
                    assert_equal_reads(found, expected, np.stack([vector(n, dimension) for n in (1, 4, 12)]))
        finally:
            fresh.close()
            after.close()


def collections_published(reader: FreshReader, fakes: Fakes) -> Collection[str]:
    return reader.collections(fakes.services, read_level="snapshot")


def happen(event: Event, number: int, space: Space, fakes: Fakes) -> None:
    """Write a delta, run a whole pass, or one that does not clean up."""
    if not isinstance(event, str):
        event.delta(number, space).put_into(fakes.objects)
    elif event == "compact":
        compact(fakes)
    else:
        Pass(fakes, f"{number}").up_to_upload().upload()


quiet = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(quiet, max_examples=25)
@given(events=EVENTS, space=SPACES)
@example(events=[Write(0, {"a": (0, None, None, None)}, frozenset(), 3), Write(0, {}, frozenset("a"), 3)], space="ip")
def test_a_fresh_read_equals_the_next_compaction(events: list[Event], space: Space) -> None:
    check(events, space)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(quiet, max_examples=1500)
@given(events=EVENTS, space=SPACES)
def test_a_fresh_read_equals_the_next_compaction_on_very_many_histories(events: list[Event], space: Space) -> None:
    check(events, space)
