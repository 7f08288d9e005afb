"""The planner reads the listing as a stream: same plan as over the whole listing, and memory for one pass only."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.layout import collection_of_key, twin_key
from chromadb_compaction.planning import ObjectInfo, PassLimits, PassPlan, PassPlanner, PlannedBatch, plan_batches
from tests.turns import FULL_PASS


def plan_the_whole_listing(pending: Iterable[ObjectInfo], limits: PassLimits) -> PassPlan:
    """Plan as earlier versions did: make every batch of the backlog, sort the batches, and choose from the first."""
    batches = sorted(_batches(pending, limits), key=lambda batch: min(d.modified for d in batch.deltas))
    chosen: list[PlannedBatch] = []
    collections: set[str] = set()
    total = 0
    for batch in batches:
        touched = collections.union(batch.collections)
        too_large = chosen and total + batch.bytes > limits.max_bytes
        if len(chosen) == limits.max_batches or too_large or len(touched) > limits.max_collections:
            break
        chosen.append(batch)
        collections = touched
        total += batch.bytes
    return PassPlan(tuple(chosen), more=len(chosen) < len(batches))


def _batches(pending: Iterable[ObjectInfo], limits: PassLimits) -> Iterator[PlannedBatch]:
    most = min(limits.max_batch_bytes, limits.max_bytes)
    taken: list[ObjectInfo] = []
    names: dict[str, None] = {}
    for delta in sorted(pending, key=lambda delta: collection_of_key(delta.key)):
        name = collection_of_key(delta.key)
        full = len(taken) >= limits.size or sum(each.bytes for each in taken) + delta.bytes > most
        is_twin = taken and twin_key(delta.key) == taken[-1].key
        if taken and not is_twin and (full or len(names.keys() | {name}) > limits.max_collections):
            yield PlannedBatch(tuple(names), tuple(taken))
            taken, names = [], {}
        taken.append(delta)
        names[name] = None
    if taken:
        yield PlannedBatch(tuple(names), tuple(taken))


backlogs = st.lists(
    st.builds(
        lambda name, number, suffix, size, modified: ObjectInfo(
            key=f"delta/{name}/{number:02d}{suffix}", bytes=size, etag="e", modified=modified
        ),
        # Names of which none begins with another: for those, the order of keys is the order of collections.
        st.sampled_from(["aaa", "bbb", "ccc-1", "ccc-2", "ddd.x"]),
        st.integers(0, 30),
        st.sampled_from([".parquet", ".jsonl.gz"]),
        st.integers(0, 40),
        st.integers(0, 9).map(float),
    ),
    unique_by=lambda delta: delta.key,
    max_size=60,
).map(lambda deltas: sorted(deltas, key=lambda delta: delta.key))
limits_of_passes = st.builds(
    PassLimits, st.integers(1, 7), st.integers(1, 9), st.integers(1, 300), st.integers(1, 120), st.integers(1, 4)
)


@given(backlogs, limits_of_passes)
def test_the_plan_is_the_one_that_was_made_over_the_whole_listing(
    backlog: list[ObjectInfo], limits: PassLimits
) -> None:
    assert plan_batches(iter(backlog), limits) == plan_the_whole_listing(backlog, limits)


@given(limits_of_passes, st.integers(1, 600))
def test_a_divided_pass_is_smaller_in_every_way_and_never_empty(limits: PassLimits, by: int) -> None:
    smaller = limits.divided(by)

    assert smaller.size * smaller.max_batches <= max(1, limits.size * limits.max_batches // by)
    assert smaller.max_bytes <= max(1, limits.max_bytes // by)
    assert min(smaller) >= 1


def test_the_planner_holds_no_more_deltas_than_a_pass() -> None:
    alive: weakref.WeakSet[ObjectInfo] = weakref.WeakSet()
    most = 0
    planner = PassPlanner(FULL_PASS._replace(size=10, max_batches=4))
    for number in range(3000):
        delta = ObjectInfo(key=f"delta/docs/{number:06d}.parquet", bytes=1, etag="e", modified=3000.0 - number)
        alive.add(delta)
        planner.add(delta)
        most = max(most, len(alive))
    gc.collect()

    assert planner.plan().more
    assert most <= 10 * (4 + 2)
