"""Dropped collections: what is older than the drop is gone for good, in any order, and the shape is free again."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from chromadb_compaction.deltas.outcomes import unpack_outcomes
from chromadb_compaction.errors import NoSuchCollectionError
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.messages import PublishedSnapshot
from chromadb_compaction.operations.pull import pull_snapshot
from chromadb_compaction.operations.verify import verify_snapshot
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.steps.query import answer
from chromadb_compaction.steps.query_messages import GetAnswer, GetRequest
from tests.builders import NOW, BuiltDelta, a_delta, a_drop
from tests.fakes.services import Fakes
from tests.passes import Pass, compact


def written(second: int, *rows: str, dimension: int = 2, **options: Any) -> BuiltDelta:
    """Return a delta of that second, whose documents say it."""
    vectors = {row: [float(second)] * dimension for row in rows}
    return a_delta(vectors, documents=dict.fromkeys(rows, str(second)), at=NOW - 100 + second, **options)


def drop(second: int) -> BuiltDelta:
    return a_drop(at=NOW - 100 + second)


def manifest(fakes: Fakes) -> Manifest:
    current = read_pointer(fakes.services)
    assert current is not None
    return read_manifest(fakes.services, current.pointer)


def documents(fakes: Fakes) -> dict[str, str | None] | None:
    """Return the records that a reader finds. None: there is no such collection."""
    try:
        found = answer(
            GetRequest(action="get", collection="docs", read_level="snapshot"), fakes.services, reader=FreshReader()
        )
    except NoSuchCollectionError:
        return None
    assert isinstance(found, GetAnswer)
    return dict(zip(found.ids, found.documents or [], strict=True))


def quarantined(fakes: Fakes, published: PublishedSnapshot) -> int:
    outcomes = unpack_outcomes(fakes.objects.get(published.outcome).body)
    return sum(each.status == "quarantined" for each in outcomes)


def test_a_dropped_collection_is_gone_for_readers_and_the_others_stay(fakes: Fakes, tmp_path: Path) -> None:
    compact(fakes, written(0, "a", "b"), written(0, "z", collection="other"))
    compact(fakes, drop(1))

    assert documents(fakes) is None
    assert list(manifest(fakes).collections) == ["other"]
    assert [each.collection for each in pull_snapshot(fakes.services, None, tmp_path / "copy").collections] == ["other"]
    assert verify_snapshot(fakes.services, None, full=True).problems == []


def test_a_late_older_upsert_stays_out_and_is_archived(fakes: Fakes) -> None:
    compact(fakes, written(0, "a"), drop(5))

    late = written(3, "late", dimension=7)
    published = compact(fakes, late)

    assert documents(fakes) is None
    assert (published.deltas_merged, published.deltas_quarantined) == (1, 0)
    assert late.key not in fakes.objects.objects


@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
def test_the_shape_is_free_after_a_drop(fakes: Fakes, *, together: bool) -> None:
    compact(fakes, written(0, "a", header={"space": "cosine"}))
    later = [drop(1), written(2, "a", dimension=3), written(3, "b", dimension=3)]
    if together:
        assert quarantined(fakes, compact(fakes, *later)) == 0
    else:
        for delta in later:
            assert quarantined(fakes, compact(fakes, delta)) == 0

    assert documents(fakes) == {"a": "2", "b": "3"}
    described = manifest(fakes).collections["docs"]
    assert (described.dimension, described.space) == (3, "l2")
    assert verify_snapshot(fakes.services, None, full=True).problems == []


def test_all_in_the_first_pass(fakes: Fakes) -> None:
    published = compact(fakes, written(0, "a"), drop(1), written(2, "b", dimension=3))

    assert (documents(fakes), quarantined(fakes, published)) == ({"b": "2"}, 0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_order_of_arrival_does_not_matter(fakes: Fakes, order: tuple[int, ...]) -> None:
    deltas = [written(0, "a", "b"), written(1, "b", "c"), drop(2), written(3, "c", "d")]
    for number in order:
        compact(fakes, deltas[number])

    assert documents(fakes) == {"c": "3", "d": "3"}
    assert verify_snapshot(fakes.services, None, full=True).problems == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_settings_older_than_a_drop_are_gone_in_any_order(fakes: Fakes, order: tuple[int, ...]) -> None:
    def stating(second: int, **stated: Any) -> BuiltDelta:
        return a_delta(header={"format": 2, "collection": stated}, at=NOW - 100 + second)

    deltas = [
        stating(0, metadata={"n": 0}, configuration={"hnsw": {"ef_search": 7}}),
        drop(1),
        stating(2, metadata={"n": 2}),
    ]
    for number in order:
        compact(fakes, deltas[number])

    settings = manifest(fakes).collections["docs"].settings
    assert (settings.metadata_value, settings.ef_search) == ({"n": 2}, None)


def test_a_drop_of_a_collection_that_never_existed_keeps_older_rows_out(fakes: Fakes) -> None:
    compact(fakes, drop(1))
    compact(fakes, written(0, "a"))
    assert documents(fakes) is None

    compact(fakes, written(2, "a"))
    assert documents(fakes) == {"a": "2"}


def test_a_collection_may_be_dropped_twice_and_the_newest_drop_counts(fakes: Fakes) -> None:
    for delta in (written(0, "a"), drop(4), written(5, "b"), drop(2), written(3, "c")):
        compact(fakes, delta)

    assert documents(fakes) == {"b": "5"}


def test_the_same_drop_again_publishes_nothing(fakes: Fakes) -> None:
    dropping = drop(1)
    compact(fakes, written(0, "a"), dropping)
    compact(fakes, written(2, "a"))

    assert not compact(fakes, dropping).published
    assert documents(fakes) == {"a": "2"}


def test_a_drop_that_disappears_during_the_pass_loses_nothing(fakes: Fakes) -> None:
    compact(fakes, written(0, "a"))
    dropping = drop(2)
    for delta in (dropping, written(1, "b"), written(3, "c")):
        delta.put_into(fakes.objects)
    one = Pass(fakes, "later")
    one.find()
    one.download()
    fakes.objects.delete([dropping.key])
    one.merge()
    one.upload()

    # The drop was read, and the delta before it was left out because of it: both or neither.
    assert documents(fakes) == {"c": "3"}


def test_a_drop_that_could_not_be_read_in_time_waits_for_the_next_pass(fakes: Fakes) -> None:
    compact(fakes, written(0, "a"))
    dropping = drop(2)
    for delta in (dropping, written(3, "c")):
        delta.put_into(fakes.objects)
    one = Pass(fakes, "later")
    one.find()
    fakes.objects.unreadable.add(dropping.key)
    one.download()
    fakes.objects.unreadable.clear()
    one.merge()
    one.clean_up(one.upload())
    assert documents(fakes) == {"a": "0", "c": "3"}

    compact(fakes)

    assert documents(fakes) == {"c": "3"}


@pytest.mark.parametrize(
    "delta",
    [
        a_drop(rows=[{"id": "b", "embedding": [1, 0]}]),
        a_drop({"producer": random.Random(0).randbytes(400).hex()}),
        a_delta(header={"format": 2, "drop": True}),
        a_drop({"space": "l2"}),
        a_drop({"format": 1}),
    ],
    ids=["rows", "large", "parquet", "statement", "format"],
)
def test_a_drop_that_is_more_than_a_drop_goes_to_quarantine(fakes: Fakes, delta: BuiltDelta) -> None:
    compact(fakes, written(0, "a"))

    assert quarantined(fakes, compact(fakes, delta)) == 1
    assert documents(fakes) == {"a": "0"}
