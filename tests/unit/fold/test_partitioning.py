"""The plan of a collection's folds: which directories change, and where they are divided and joined."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.fold.partitioning import Arriving, PartitionSizes, PlannedFold, plan_folds_of
from chromadb_compaction.fold.units import directories_of
from chromadb_compaction.manifest import CollectionSnapshot, Conservation, PartitionSnapshot, totals
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange, SampledIds, ranges

SIZES = PartitionSizes(split=20, target=10)
NOTHING = Conservation.unchanged("0" * 32)


def a_base(*ids: Sequence[str]) -> tuple[CollectionSnapshot, dict[str, Sequence[str]]]:
    """Return a collection with directories of these ids, and the ids by the first one of each directory."""
    firsts = ["", *(each[0] for each in ids[1:])]
    parts = [
        PartitionSnapshot(first=first, records=len(each), tombstones=0, conservation=NOTHING, files={})
        for first, each in zip(firsts, ids, strict=True)
    ]
    fields = {"dimension": 2, "space": "l2", "embedding_function": None, "files": {}}
    if len(parts) > 1:
        fields |= {"partitions": parts, **totals(parts)}
    else:
        fields |= {"records": parts[0].records, "tombstones": 0, "conservation": NOTHING}
    return CollectionSnapshot.model_validate(fields), dict(zip(firsts, ids, strict=True))


def some_ids(first: int, end: int) -> list[str]:
    return [f"{number:04d}" for number in range(first, end)]


def planned(
    base: tuple[CollectionSnapshot, dict[str, Sequence[str]]] | None,
    *runs: Sequence[str],
    sizes: PartitionSizes = SIZES,
    changes_all: bool = False,
    drops: bool = False,
) -> list[PlannedFold]:
    """Return the plan for runs with these ids, each of which is known."""
    arriving = Arriving([SampledIds(run, len(run)) for run in runs], changes_all=changes_all, drops=drops)
    known, ids = base or (None, {})
    return plan_folds_of(arriving, known, sizes, lambda each: ids[each.first])


def spans(folds: Sequence[PlannedFold]) -> list[tuple[str, str | None]]:
    return [(each.ids.first, each.ids.end) for each in folds]


id_lists = st.lists(st.text("abcé\U0001f600", min_size=1, max_size=4), max_size=80, unique=True).map(sorted)
sizes = st.tuples(st.integers(1, 30), st.integers(1, 30)).map(lambda two: PartitionSizes(max(two), min(two)))


@st.composite
def bases(draw: st.DrawFn) -> tuple[CollectionSnapshot, dict[str, Sequence[str]]]:
    ids = draw(st.lists(st.text("abcé\U0001f600", min_size=1, max_size=4), min_size=1, max_size=80, unique=True))
    ids.sort()
    cuts = sorted(draw(st.sets(st.integers(1, len(ids)), max_size=6)) - {len(ids)})
    return a_base(*(ids[begin:end] for begin, end in pairwise([0, *cuts, len(ids)])))


@given(st.none() | bases(), st.lists(id_lists, max_size=3), sizes, st.sampled_from(["", "settings", "drop"]))
def test_folds_are_disjoint_and_cover_directories_wholly_and_every_row_that_arrives(
    base: tuple[CollectionSnapshot, dict[str, Sequence[str]]] | None,
    runs: list[list[str]],
    most: PartitionSizes,
    change: str,
) -> None:
    folds = planned(base, *runs, sizes=most, changes_all=bool(change), drops=change == "drop")

    assert folds
    assert all(each.ids.end is None or each.ids.first < each.ids.end for each in folds)
    assert all(one.ids.end is not None and one.ids.end <= other.ids.first for one, other in pairwise(folds))
    for _, ids in directories_of(base[0]) if base else [(None, ALL_IDS)]:
        inside = [each.ids for each in folds if each.ids.overlaps(ids)]
        if inside:
            assert inside[0].first <= ids.first
            assert inside[-1].end is None or (ids.end is not None and ids.end <= inside[-1].end)
            assert all(one.end == other.first for one, other in pairwise(inside))
    for record_id in {each for run in runs for each in run}:
        assert sum(holds(each.ids, record_id) for each in folds) == 1


def holds(ids: IdRange, record_id: str) -> bool:
    return ids.first <= record_id and (ids.end is None or record_id < ids.end)


@given(id_lists, st.integers(1, 10), st.text("abcé\U0001f600", max_size=4), st.text("abcé\U0001f600", max_size=4))
def test_a_range_with_rows_is_touched_whatever_was_sampled(ids: list[str], step: int, one: str, other: str) -> None:
    sampled = SampledIds(ids if step == 1 else sorted({*ids[::step], *ids[-1:]}), len(ids))
    for span in (IdRange(min(one, other), max(one, other) or None), IdRange(one, None)):
        inside = sum(holds(span, each) for each in ids)
        assert sampled.rows_within(span) >= min(inside, 1)
        assert step > 1 or sampled.rows_within(span) == inside


def test_ids_that_ascend_with_time_touch_the_last_directory() -> None:
    base = a_base(some_ids(0, 10), some_ids(10, 20), some_ids(20, 30))

    assert spans(planned(base, some_ids(30, 33))) == [("0020", None)]


def test_ids_between_those_that_were_sampled_touch_their_directory() -> None:
    base = a_base(some_ids(0, 10), some_ids(10, 20), some_ids(20, 30))
    run = SampledIds(["0005", "0025"], 400)

    folds = plan_folds_of(Arriving([run]), base[0], PartitionSizes(10**6, 1), lambda _: [])

    assert spans(folds) == [("", "0010"), ("0010", "0020"), ("0020", None)]


def test_a_new_collection_of_many_rows_arrives_divided_equally() -> None:
    folds = planned(None, some_ids(0, 40), some_ids(40, 80))

    assert spans(folds) == spans_of(ranges(["", *(f"{number:04d}" for number in range(10, 80, 10))]))
    assert {each.base_bytes for each in folds} == {0}


def spans_of(ids: Sequence[IdRange]) -> list[tuple[str, str | None]]:
    return [(each.first, each.end) for each in ids]


def test_a_directory_that_grows_too_large_is_divided_and_no_other_changes() -> None:
    base = a_base(some_ids(0, 15), some_ids(15, 30))

    assert spans(planned(base, some_ids(30, 36))) == [("0015", "0022"), ("0022", "0029"), ("0029", None)]


def test_rows_that_replace_others_divide_nothing() -> None:
    base = a_base(some_ids(0, 18))

    assert spans(planned(base, *[some_ids(0, 18)] * 9)) == [("", None)]


def test_one_new_id_in_many_runs_counts_once() -> None:
    assert spans(planned(None, *[some_ids(0, 18)] * 9)) == [("", None)]


def test_small_neighbours_are_joined_when_one_of_them_changes() -> None:
    base = a_base(some_ids(0, 9), ["0010"], ["0020"], ["0030", "0031"])

    folds = planned(base, ["0021"])

    assert spans(folds) == [("0010", "0030")]


def test_a_collection_of_few_rows_becomes_one_directory_again() -> None:
    assert spans(planned(a_base(["0001"], ["0002"]), ["0002"])) == [("", None)]


def test_a_change_beside_rows_touches_every_directory() -> None:
    base = a_base(some_ids(0, 10), some_ids(10, 20))

    assert spans(planned(base, changes_all=True)) == [("", "0010"), ("0010", None)]


def test_a_dropped_collection_is_neither_divided_nor_joined() -> None:
    base = a_base(["0001"], some_ids(2, 40))

    assert spans(planned(base, some_ids(50, 90), drops=True)) == [("", "0002"), ("0002", None)]


def test_what_changes_nothing_is_shown_by_one_directory() -> None:
    assert len(planned(a_base(some_ids(0, 9), some_ids(9, 18)))) == 1
