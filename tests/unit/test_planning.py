"""The rules of batching and pruning, for every backlog and every history."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.layout import NO_COLLECTION, collection_of_key, new_snapshot_id, snapshot_sequence, twin_key
from chromadb_compaction.planning import ObjectInfo, PassLimits, PassPlan, SnapshotAge, plan_batches, plan_prune

NOW = 1_000_000.0
ANY = 10**12


def pending_delta(collection: str, number: int, size: int = 1, modified: float = 0.0) -> ObjectInfo:
    return ObjectInfo(key=f"delta/{collection}/{number:06d}.parquet", bytes=size, etag="e", modified=modified)


backlogs = st.lists(
    st.builds(
        pending_delta,
        st.sampled_from(["aaa", "aaa-1", "aaa.b", "bbb", "ccc/odd"]),
        st.integers(0, 60),
        st.integers(0, 40),
        st.floats(0, 1000),
    ),
    unique_by=lambda delta: delta.key,
    max_size=60,
).map(lambda deltas: sorted(deltas, key=lambda delta: delta.key))
sizes = st.integers(1, 7)
limits = st.integers(1, 9)
byte_limits = st.integers(1, 120)


def planned(plan: PassPlan) -> list[ObjectInfo]:
    return [delta for batch in plan.batches for delta in batch.deltas]


@given(backlogs, sizes, byte_limits, st.randoms(use_true_random=False))
def test_two_files_of_one_name_share_a_batch(
    backlog: list[ObjectInfo], size: int, most: int, chance: random.Random
) -> None:
    second = [d.model_copy(update={"key": d.key.removesuffix(".parquet") + ".jsonl.gz"}) for d in backlog]
    both = sorted([*backlog, *chance.sample(second, len(second) // 2)], key=lambda delta: delta.key)

    plan = plan_batches(
        both, PassLimits(size=size, max_batches=1000, max_bytes=ANY, max_batch_bytes=most, max_collections=2)
    )

    places = {delta.key: number for number, batch in enumerate(plan.batches) for delta in batch.deltas}
    for key, place in places.items():
        assert places.get(str(twin_key(key)), place) == place
    assert all(len(batch.deltas) <= size + 1 for batch in plan.batches)


@given(backlogs, sizes, limits, byte_limits)
def test_a_pass_takes_each_pending_delta_at_most_once_and_no_others(
    backlog: list[ObjectInfo], size: int, limit: int, most: int
) -> None:
    taken = Counter(
        d.key
        for d in planned(
            plan_batches(
                backlog,
                PassLimits(size=size, max_batches=limit, max_bytes=most, max_batch_bytes=ANY, max_collections=ANY),
            )
        )
    )

    assert taken <= Counter(d.key for d in backlog)


@given(backlogs, sizes, limits, byte_limits)
def test_more_is_true_exactly_if_deltas_are_left(backlog: list[ObjectInfo], size: int, limit: int, most: int) -> None:
    plan = plan_batches(
        backlog, PassLimits(size=size, max_batches=limit, max_bytes=most, max_batch_bytes=ANY, max_collections=ANY)
    )

    assert plan.more == (len(planned(plan)) < len(backlog))


@given(backlogs, sizes, limits, byte_limits, st.integers(1, 4))
def test_batches_keep_to_their_size_and_name_their_collections(
    backlog: list[ObjectInfo], size: int, limit: int, most: int, collections: int
) -> None:
    plan = plan_batches(
        backlog,
        PassLimits(size=size, max_batches=limit, max_bytes=most, max_batch_bytes=ANY, max_collections=collections),
    )

    assert len(plan.batches) <= limit
    assert len({name for batch in plan.batches for name in batch.collections}) <= collections
    for batch in plan.batches:
        assert 1 <= len(batch.deltas) <= size
        assert batch.collections == tuple(sorted({collection_of_key(delta.key) for delta in batch.deltas}))
        assert list(batch.deltas) == sorted(batch.deltas, key=lambda delta: (collection_of_key(delta.key), delta.key))
        assert batch.bytes == sum(delta.bytes for delta in batch.deltas)


@given(backlogs, sizes)
def test_only_the_last_batch_is_not_full(backlog: list[ObjectInfo], size: int) -> None:
    plan = plan_batches(
        backlog, PassLimits(size=size, max_batches=1000, max_bytes=ANY, max_batch_bytes=ANY, max_collections=ANY)
    )

    assert sum(len(batch.deltas) < size for batch in plan.batches) <= 1


def test_many_small_collections_share_batches() -> None:
    backlog = [pending_delta(f"customer-{number:03d}", 1) for number in range(300)]

    plan = plan_batches(
        backlog, PassLimits(size=100, max_batches=40, max_bytes=ANY, max_batch_bytes=ANY, max_collections=400)
    )

    assert [len(batch.collections) for batch in plan.batches] == [100, 100, 100]
    assert not plan.more


def test_folders_with_invalid_collection_names_count_as_one_collection() -> None:
    hostile = [pending_delta("\0" * 900 + str(number), number) for number in range(100)]

    plan = plan_batches(
        [*hostile, pending_delta("docs", 1, modified=1)],
        PassLimits(size=100, max_batches=2, max_bytes=1000, max_batch_bytes=ANY, max_collections=2),
    )

    assert [(batch.collections, len(batch.deltas)) for batch in plan.batches] == [
        ((NO_COLLECTION,), 100),
        (("docs",), 1),
    ]


@given(backlogs, sizes, limits, byte_limits)
def test_a_pass_exceeds_its_bytes_only_by_a_single_oversized_delta(
    backlog: list[ObjectInfo], size: int, limit: int, most: int
) -> None:
    taken = planned(
        plan_batches(
            backlog, PassLimits(size=size, max_batches=limit, max_bytes=most, max_batch_bytes=ANY, max_collections=ANY)
        )
    )

    assert sum(delta.bytes for delta in taken) <= most or len(taken) == 1


@given(backlogs, sizes, byte_limits)
def test_a_batch_exceeds_its_bytes_only_by_a_single_oversized_delta(
    backlog: list[ObjectInfo], size: int, most: int
) -> None:
    plan = plan_batches(
        backlog, PassLimits(size=size, max_batches=1000, max_bytes=ANY, max_batch_bytes=most, max_collections=ANY)
    )

    assert len(planned(plan)) == len(backlog)
    assert all(batch.bytes <= most or len(batch.deltas) == 1 for batch in plan.batches)


@given(backlogs, sizes, limits, byte_limits, st.integers(1, 4))
def test_repeated_passes_take_every_delta(
    backlog: list[ObjectInfo], size: int, limit: int, most: int, collections: int
) -> None:
    left = backlog
    for _ in range(len(backlog)):
        plan = plan_batches(
            left,
            PassLimits(size=size, max_batches=limit, max_bytes=most, max_batch_bytes=ANY, max_collections=collections),
        )
        taken = {delta.key for delta in planned(plan)}
        left = [delta for delta in left if delta.key not in taken]

    assert left == []


@given(backlogs, sizes, limits, byte_limits)
def test_the_oldest_delta_is_always_in_the_pass(backlog: list[ObjectInfo], size: int, limit: int, most: int) -> None:
    plan = plan_batches(
        backlog, PassLimits(size=size, max_batches=limit, max_bytes=most, max_batch_bytes=ANY, max_collections=ANY)
    )

    if backlog:
        assert min(delta.modified for delta in backlog) == min(delta.modified for delta in plan.batches[0].deltas)


def test_an_empty_backlog_is_an_empty_pass() -> None:
    assert plan_batches(
        [], PassLimits(size=100, max_batches=40, max_bytes=1, max_batch_bytes=ANY, max_collections=ANY)
    ) == PassPlan((), more=False)


def test_a_folder_marker_of_a_console_is_not_planned() -> None:
    folder = ObjectInfo(key="delta/docs/", bytes=0, etag="e", modified=0)

    assert plan_batches(
        [folder], PassLimits(size=100, max_batches=40, max_bytes=1, max_batch_bytes=ANY, max_collections=ANY)
    ) == PassPlan((), more=False)


def test_a_busy_collection_does_not_starve_a_quiet_one() -> None:
    busy = [pending_delta("busy", n, modified=100.0 + n) for n in range(300)]
    quiet = [pending_delta("quiet", 1, modified=150.0)]

    plan = plan_batches(
        [*busy, *quiet], PassLimits(size=100, max_batches=2, max_bytes=10**9, max_batch_bytes=ANY, max_collections=ANY)
    )

    assert plan.batches[0].collections == ("busy",)
    assert "quiet" in plan.batches[1].collections


def test_an_oversized_delta_does_not_block_later_ones() -> None:
    huge, small = pending_delta("docs", 1, size=10**9), pending_delta("docs", 2)

    plan = plan_batches(
        [huge, small], PassLimits(size=100, max_batches=40, max_bytes=1000, max_batch_bytes=ANY, max_collections=ANY)
    )

    assert planned(plan) == [huge]
    assert plan.more


ages = st.lists(
    st.builds(
        SnapshotAge,
        st.builds(new_snapshot_id, st.integers(1, 30), st.sampled_from(["00000000", "ffffffff"])),
        st.floats(0, NOW),
    ),
    unique_by=lambda snapshot: snapshot.snapshot_id,
    min_size=1,
    max_size=20,
)


@given(ages, st.data(), st.integers(0, 12), st.floats(0, NOW))
def test_only_old_and_superseded_snapshots_are_pruned(
    snapshots: Sequence[SnapshotAge], data: st.DataObject, keep_count: int, keep_seconds: float
) -> None:
    current = data.draw(st.sampled_from(snapshots)).snapshot_id

    pruned = plan_prune(snapshots, current=current, now=NOW, keep_count=keep_count, keep_seconds=keep_seconds)

    kept = [snapshot for snapshot in snapshots if snapshot.snapshot_id not in pruned]
    going = [snapshot for snapshot in snapshots if snapshot.snapshot_id in pruned]
    assert current not in pruned
    assert len(kept) >= min(keep_count, len(snapshots))
    assert all(NOW - snapshot.created_at > keep_seconds for snapshot in going)
    assert all(snapshot_sequence(snapshot.snapshot_id) <= snapshot_sequence(current) for snapshot in going)


@given(ages, st.data())
def test_pruning_again_prunes_nothing_more(snapshots: Sequence[SnapshotAge], data: st.DataObject) -> None:
    current = data.draw(st.sampled_from(snapshots)).snapshot_id
    pruned = plan_prune(snapshots, current=current, now=NOW, keep_count=3, keep_seconds=10)

    left = [snapshot for snapshot in snapshots if snapshot.snapshot_id not in pruned]

    assert not plan_prune(left, current=current, now=NOW, keep_count=3, keep_seconds=10)


def test_the_newest_and_the_young_snapshots_are_kept_and_the_others_pruned() -> None:
    snapshots = [SnapshotAge(new_snapshot_id(n, "00000000"), NOW - 1000 + 100 * n) for n in range(1, 7)]

    pruned = plan_prune(snapshots, current=snapshots[-1].snapshot_id, now=NOW, keep_count=2, keep_seconds=650)

    assert {snapshot_sequence(snapshot_id) for snapshot_id in pruned} == {1, 2, 3}


def test_snapshots_that_were_rolled_back_from_are_kept() -> None:
    snapshots = [SnapshotAge(new_snapshot_id(n, "00000000"), float(n)) for n in range(1, 5)]

    pruned = plan_prune(snapshots, current=snapshots[1].snapshot_id, now=NOW, keep_count=0, keep_seconds=1)

    assert {snapshot_sequence(snapshot_id) for snapshot_id in pruned} == {1}


@pytest.mark.parametrize("field", ["key", "bytes", "etag", "modified"])
def test_an_incomplete_object_description_is_refused(field: str) -> None:
    described = {"key": "k", "bytes": 1, "etag": "e", "modified": 1.0}
    del described[field]

    with pytest.raises(ValueError, match=field):
        ObjectInfo.model_validate(described)
