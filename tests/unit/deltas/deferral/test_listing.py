"""Deferral: which deltas of a listing wait, over any listing and any rule."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.deltas.attempts import Attempts
from chromadb_compaction.deltas.deferral.listing import (
    COUNTED_AT_ONCE,
    MOST_COUNTED,
    Deferral,
    RowCounter,
    without_rows,
)
from chromadb_compaction.deltas.deferral.rule import DeferralRule, PendingSize
from chromadb_compaction.layout import attempts_prefix, collection_of_key
from chromadb_compaction.planning import ObjectInfo

NOW = 1_000_000.0
BOUNDS = PendingSize(deltas=6, rows=50, bytes=500)
RULE = DeferralRule(min_rows=20, min_bytes=200, max_age_seconds=3600, bounds=BOUNDS)


def an_info(name: str, number: int = 0, *, age: float = 0, size: int = 1) -> ObjectInfo:
    return ObjectInfo(key=f"delta/{name}/{number:06d}.parquet", bytes=size, etag="e", modified=NOW - age)


def ten_rows_each(deltas: Sequence[ObjectInfo]) -> list[PendingSize]:
    return [each._replace(rows=10, unpacked_bytes=2 * each.bytes) for each in without_rows(deltas)]


def a_deferral(
    rule: DeferralRule = RULE,
    *,
    attempts: Mapping[str, Attempts] | None = None,
    now: float = NOW,
    count_rows: RowCounter = ten_rows_each,
) -> Deferral:
    return Deferral(rule, attempts or {}, now=now, count_rows=count_rows)


listings = st.lists(
    st.builds(
        lambda name, number, age, size: an_info(name, number, age=age, size=size),
        st.sampled_from(["aaa", "bbb", "ccc-1", "ccc-2", "ddd.x", "no/collection"]),
        st.integers(0, 30),
        st.integers(0, 5000).map(float),
        st.integers(0, 90),
    ),
    unique_by=lambda delta: delta.key,
    max_size=60,
).map(lambda deltas: sorted(deltas, key=lambda delta: delta.key))
rules = st.builds(
    DeferralRule,
    st.integers(0, 40),
    st.integers(0, 400),
    st.sampled_from([0.0, 60.0, 3600.0]),
    st.builds(PendingSize, deltas=st.integers(1, 9), bytes=st.integers(1, 900), rows=st.integers(1, 90)),
)


@given(listings, rules)
def test_every_delta_is_due_or_waits_and_none_waits_past_its_age_or_a_bound(
    listing: list[ObjectInfo], rule: DeferralRule
) -> None:
    deferral = a_deferral(rule)

    due = list(deferral.due(listing))

    waiting = [each for each in listing if each not in due]
    assert len(due) == len({each.key for each in due})
    assert deferral.deferred.deltas == len(waiting)
    by_collection = [list(group) for _, group in groupby(waiting, lambda each: collection_of_key(each.key))]
    assert deferral.deferred.collections == {collection_of_key(group[0].key): group[-1].key for group in by_collection}
    for group in by_collection:
        assert all(NOW - each.modified < rule.max_age_seconds for each in group)
        assert len(group) < rule.bounds.deltas
        assert 10 * len(group) < min(rule.bounds.rows, rule.min_rows or 1000)
        assert 2 * sum(each.bytes for each in group) < rule.bounds.bytes
        assert sum(each.bytes for each in group) < (rule.min_bytes or 1000)


@given(listings, rules)
def test_a_collection_is_due_or_waits_as_a_whole_and_keeps_the_order_of_its_keys(
    listing: list[ObjectInfo], rule: DeferralRule
) -> None:
    due = list(a_deferral(rule).due(listing))

    for name, group in groupby(due, lambda each: collection_of_key(each.key)):
        if name != "(no collection)":
            assert list(group) == [each for each in listing if collection_of_key(each.key) == name]


@given(listings, rules, st.integers(0, 4000))
def test_what_is_due_now_is_due_later(listing: list[ObjectInfo], rule: DeferralRule, later: int) -> None:
    now = {each.key for each in a_deferral(rule).due(listing)}

    assert now <= {each.key for each in a_deferral(rule, now=NOW + later).due(listing)}


@given(listings)
def test_without_minimums_the_listing_is_passed_on_as_it_is(listing: list[ObjectInfo]) -> None:
    def never(_deltas: Sequence[ObjectInfo]) -> list[PendingSize]:
        raise AssertionError("rows were counted")

    deferral = a_deferral(DeferralRule(0, 0, 0, BOUNDS), count_rows=never)

    assert list(deferral.due(listing)) == listing
    assert deferral.deferred.deltas == 0


@pytest.mark.parametrize(
    ("number", "age", "size", "due"),
    [(1, 0, 1, False), (2, 0, 1, True), (1, 0, 199, False), (1, 0, 200, True), (1, 3599, 1, False), (1, 3600, 1, True)],
)
def test_a_collection_is_due_by_its_rows_or_bytes_or_age(number: int, age: float, size: int, due: bool) -> None:  # noqa: FBT001 - a column of the table
    listing = [an_info("docs", n, age=age, size=size) for n in range(number)]

    assert bool(list(a_deferral().due(listing))) is due


def test_the_first_time_at_which_a_collection_is_due_is_that_of_the_oldest_delta() -> None:
    deferral = a_deferral()
    list(deferral.due([an_info("docs", age=600), an_info("texts", age=1200)]))

    assert deferral.deferred.until == NOW - 1200 + 3600


def test_a_collection_with_a_mark_of_a_failure_does_not_wait() -> None:
    marked = an_info("docs", 0)
    attempts = {attempts_prefix(marked.key, marked.etag): Attempts(failures=1)}

    assert list(a_deferral(attempts=attempts).due([marked, an_info("texts")])) == [marked]


def test_a_collection_whose_rows_cannot_be_counted_does_not_wait() -> None:
    listing = [an_info("docs"), an_info("texts")]

    def fails_for_docs(deltas: Sequence[ObjectInfo]) -> list[PendingSize | None]:
        return [None if "docs" in each.key else PendingSize(1, 1, NOW, 1, 1) for each in deltas]

    assert list(a_deferral(count_rows=fails_for_docs).due(listing)) == listing[:1]


def test_a_listing_of_many_waiting_collections_is_counted_up_to_a_limit_and_the_rest_is_merged() -> None:
    counted: list[int] = []

    def count(deltas: Sequence[ObjectInfo]) -> list[PendingSize]:
        counted.append(len(deltas))
        return ten_rows_each(deltas)

    deferral = a_deferral(count_rows=count)
    due = sum(1 for _ in deferral.due(an_info(f"c{n:05d}") for n in range(MOST_COUNTED + 500)))

    assert (sum(counted), max(counted)) == (MOST_COUNTED, COUNTED_AT_ONCE)
    assert (due, deferral.deferred.deltas) == (500, MOST_COUNTED)


def test_no_more_deltas_are_held_than_are_counted_at_once_and_one_collection_may_have() -> None:
    alive: weakref.WeakSet[ObjectInfo] = weakref.WeakSet()
    most = 0

    def listing() -> Iterator[ObjectInfo]:
        nonlocal most
        for number in range(6000):
            for delta in [an_info(f"c{number:05d}", n) for n in range(1 + 9 * (number % 2))]:
                alive.add(delta)
                most = max(most, len(alive))
                yield delta

    assert sum(1 for _ in a_deferral().due(listing())) == 30_000
    gc.collect()

    assert most <= COUNTED_AT_ONCE + 2 * BOUNDS.deltas + 10
