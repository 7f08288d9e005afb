"""A fresh read from an older open snapshot has the records of one from the published snapshot, on random histories."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
from hypothesis import example, given, settings

from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.configuration import Space
from chromadb_compaction.pending.collection import FreshCollection
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.snapshots import reader as snapshot_reader
from tests.differential.fresh_answers import FIELDS, assert_equal_queries
from tests.differential.histories import SPACES
from tests.differential.test_fresh_reads import EVENTS, Drop, Event, Write, happen, quiet, vector
from tests.fakes.services import new_fakes

READABLE: list[Event] = [
    Write(5, {"a": (1, "one", None, None), "b": (2, None, {"n": 1}, None)}, frozenset(), 3),
    "compact",
    Write(3, {"b": (3, "two", None, None), "c": (4, None, None, None)}, frozenset(), 3),
    "compact",
    Write(1, {"a": (5, None, None, None)}, frozenset("c"), 3),
]


def records(collection: FreshCollection) -> dict[str, tuple[Any, ...]]:
    found: Any = collection.get(Filters(), limit=None, offset=None, include=FIELDS)
    vectors = np.asarray(found["embeddings"], dtype=np.float32).round(5).tolist()
    return dict(zip(found["ids"], zip(vectors, *(found[name] for name in FIELDS[1:]), strict=True), strict=True))


def check(events: list[Event], space: Space) -> int:
    """Play the events, with downloads that never end. Return how many reads came from an older snapshot.

    Each read is compared with one by a reader that downloads everything.
    """
    behind = 0
    with ExitStack() as stack:
        fakes = new_fakes(chromadb_cache_dir=Path(stack.enter_context(TemporaryDirectory())))
        stack.enter_context(patch.object(snapshot_reader, "BACKGROUND_BYTES", 1))
        stack.enter_context(patch.object(snapshot_reader, "Thread", Mock()))
        reader = FreshReader()
        stack.callback(reader.close)
        for number, event in enumerate(events):
            happen(event, number, space, fakes)
            fresh = FreshReader()
            stack.callback(fresh.close)
            if "docs" not in fresh.collections(fakes.services):
                continue
            with (
                reader.reading(fakes.services, "docs", refresh=True) as found,
                fresh.reading(fakes.services, "docs") as expected,
            ):
                assert found.description == expected.description
                assert found.count() == expected.count()
                assert records(found) == records(expected)
                questions = np.stack([vector(number, expected.description.dimension or 1) for number in (1, 4)])
                assert_equal_queries(found, expected, questions, Filters(), n_results=20)
                behind += found.snapshot_id != expected.snapshot_id
    return behind


def test_a_read_from_an_older_snapshot_has_what_was_merged_since_and_what_is_pending() -> None:
    assert check(READABLE, "l2") == 2


@settings(quiet, max_examples=10)
@given(events=EVENTS, space=SPACES)
@example(
    # Of the published snapshot, the drop leaves records of 3 dimensions. Of the open one it leaves none.
    events=[Drop(4), Write(4, {"a": (0, None, None, None)}, frozenset(), 4)],
    space="l2",
)
def test_reads_from_older_snapshots_have_the_same_records(events: list[Event], space: Space) -> None:
    check([*READABLE, *events], space)
