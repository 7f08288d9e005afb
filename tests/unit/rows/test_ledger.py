"""The rules of a fold, on ledgers only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.rows.fingerprints import hex128, sum_rows
from chromadb_compaction.rows.ledger import Drop, FoldPlan, decode_ledger, encode_ledger
from chromadb_compaction.rows.ledger import versions as versions_of
from chromadb_compaction.rows.merging import newest
from chromadb_compaction.rows.run_rows import LEDGER_SCHEMA
from tests.runs import a_run, planned

BYTES = st.sampled_from([b"\x00", b"\x01", b"\xff"])
VERSIONS = st.tuples(
    st.lists(BYTES, min_size=16, max_size=16).map(b"".join),
    st.integers(0, 2**32 - 1),
    st.lists(BYTES, min_size=32, max_size=32).map(b"".join),
)


def ids(table: pa.Table) -> list[str | None]:
    return table["id"].to_pylist()


def folded(*runs: pa.Table) -> FoldPlan:
    """Fold each run into the ledger of the one before, and return the last plan."""
    plan = planned(None, runs[0])
    for run in runs[1:]:
        plan = planned(plan.ledger, run, base=plan.conservation.next)
    return plan


def test_rows_of_a_new_collection_are_inserted() -> None:
    plan = folded(a_run({"b": [1, 0], "a": [0, 1]}))
    assert plan.inserts.ids() == ["a", "b"]
    assert (plan.counts.added, plan.counts.records, plan.counts.tombstones) == (2, 2, 0)
    assert plan.touches_records


def test_a_newer_row_replaces_the_record_and_an_unknown_id_is_inserted() -> None:
    plan = folded(a_run({"a": [1, 0], "b": [1, 0]}, delta=1), a_run({"b": [2, 0], "c": [3, 0]}, delta=2))
    assert (plan.replacements.ids(), plan.inserts.ids(), plan.deletes) == (["b"], ["c"], [])
    assert ids(plan.ledger) == ["a", "b", "c"]


def test_an_older_row_is_stale() -> None:
    plan = folded(a_run({"a": [1, 0]}, delta=2), a_run({"a": [2, 0]}, delta=1))
    assert (plan.counts.stale, plan.touches_records, plan.touches_ledger) == (1, False, False)


def test_the_same_delta_again_changes_nothing() -> None:
    run = a_run({"a": [1, 0]}, deletes={"b"})
    plan = folded(run, run)
    assert (plan.counts.stale, plan.touches_ledger) == (2, False)


def test_a_delete_of_a_live_id_removes_the_record_and_leaves_a_tombstone() -> None:
    plan = folded(a_run({"a": [1, 0]}, delta=1), a_run(deletes={"a"}, delta=2))
    assert (plan.deletes, plan.counts.records, plan.counts.tombstones) == (["a"], 0, 1)


def test_a_delete_of_an_unknown_id_leaves_a_tombstone_and_changes_no_record() -> None:
    plan = folded(a_run(deletes={"a"}))
    assert (plan.touches_records, plan.touches_ledger, plan.counts.tombstones) == (False, True, 1)


def test_a_late_older_upsert_does_not_resurrect_a_deleted_id() -> None:
    plan = folded(a_run(deletes={"a"}, delta=2), a_run({"a": [1, 0]}, delta=1))
    assert (plan.counts.stale, plan.counts.records) == (1, 0)


def test_a_newer_upsert_of_a_deleted_id_is_an_insert() -> None:
    plan = folded(a_run({"a": [1, 0]}, delta=1), a_run(deletes={"a"}, delta=2), a_run({"a": [1, 0]}, delta=3))
    assert (plan.inserts.ids(), plan.replacements.ids(), plan.counts.tombstones) == (["a"], [], 0)


def test_a_newer_identical_row_changes_only_the_version() -> None:
    plan = folded(a_run({"a": [1, 0]}, delta=1), a_run({"a": [1, 0]}, delta=3))
    assert (plan.touches_records, plan.touches_ledger, plan.counts.unchanged) == (False, True, 1)
    late = planned(plan.ledger, a_run({"a": [2, 0]}, delta=2))
    assert late.counts.stale == 1


def test_of_two_contents_under_one_name_the_fingerprint_decides_in_any_order() -> None:
    one, other = a_run({"a": [1, 0]}), a_run({"a": [2, 0]})
    assert folded(one, other).ledger == folded(other, one).ledger


def test_the_base_sum_is_taken_from_the_manifest_so_that_the_equation_can_fail() -> None:
    ledger = folded(a_run({"a": [1, 0]})).ledger
    assert planned(ledger, a_run({"b": [1, 0]}, delta=2)).conservation.holds()
    assert not planned(ledger, a_run({"b": [1, 0]}, delta=2), base="0" * 32).conservation.holds()


def test_a_drop_of_every_record_restarts_with_an_empty_directory() -> None:
    base = folded(a_run({"a": [1, 0], "b": [1, 0]}, deletes={"c"}, delta=1))
    plan = planned(base.ledger, a_run({"b": [2, 0, 0]}, delta=3), drop=Drop((2).to_bytes(16, "big"), is_new=True))
    assert (plan.restarts, plan.deletes, plan.inserts.ids(), plan.dropped) == (True, [], ["b"], 3)
    assert (plan.counts.added, plan.counts.deleted, plan.conservation.holds()) == (1, 2, True)


def test_a_drop_that_is_older_than_a_record_deletes_the_others() -> None:
    base = folded(a_run({"a": [1, 0]}, delta=1), a_run({"b": [1, 0]}, delta=3))
    plan = planned(base.ledger, a_run(), drop=Drop((2).to_bytes(16, "big"), is_new=True))
    assert (plan.restarts, plan.deletes, ids(plan.ledger)) == (False, ["a"], ["b"])


def test_a_stored_ledger_reads_back_equal_and_equal_ledgers_have_equal_bytes() -> None:
    ledger = folded(a_run({"a": [1, 0]}, deletes={"b"})).ledger
    assert decode_ledger(encode_ledger(ledger)) == ledger
    assert encode_ledger(decode_ledger(encode_ledger(ledger))) == encode_ledger(ledger)


@given(st.lists(VERSIONS, min_size=1, max_size=8))
def test_the_ledger_compares_delta_then_row_then_fingerprint(
    versions: list[tuple[bytes, int, bytes]],
) -> None:
    table = pa.Table.from_pylist(
        [{"delta": delta, "row": row, "fingerprint": fingerprint} for delta, row, fingerprint in versions],
        schema=pa.schema([LEDGER_SCHEMA.field(name) for name in ("delta", "row", "fingerprint")]),
    )

    assert [versions[position] for position in np.argsort(versions_of(table), kind="stable")] == sorted(versions)


class Row(NamedTuple):
    row_id: str
    value: int | None


ROW_IDS = st.sampled_from(["a", "b", "c", "é", "z\x00"])
ROWS = st.builds(Row, ROW_IDS, st.none() | st.integers(0, 2))
DROP = None
"""A delta that drops the collection."""
Delta = list[Row] | None
DELTAS = st.lists(st.lists(ROWS, max_size=4, unique_by=lambda row: row.row_id) | st.just(DROP), max_size=8)


def run_of(number: int, delta: Delta) -> pa.Table:
    rows = delta or []
    upserts = {row.row_id: [float(row.value)] for row in rows if row.value is not None}
    return a_run(upserts, {row.row_id for row in rows if row.value is None}, delta=number)


class Folds:
    """Folds of one collection, each on the ledger of the one before."""

    def __init__(self, deltas: list[Delta]) -> None:
        self._deltas = deltas
        self._dropped = -1
        self.ledger = LEDGER_SCHEMA.empty_table()
        self._base = hex128(0)

    def fold(self, numbers: Iterable[int]) -> FoldPlan:
        """Fold the deltas of these numbers at once."""
        dropped = max([self._dropped, *(number for number in numbers if self._deltas[number] is DROP)])
        drop = Drop(dropped.to_bytes(16, "big"), is_new=dropped > self._dropped) if dropped >= 0 else None
        run = newest(run_of(number, self._deltas[number]) for number in numbers)
        plan = planned(self.ledger, run, base=self._base, drop=drop)
        self._dropped, self.ledger, self._base = dropped, plan.ledger, plan.conservation.next
        return plan


def applied_in_order(deltas: list[Delta]) -> dict[str, int | None]:
    """Apply the deltas in the order of their versions."""
    state: dict[str, int | None] = {}
    for rows in deltas:
        state = {} if rows is DROP else state | {row.row_id: row.value for row in rows}
    return state


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Delta], list[list[int]]]:
    """Deltas, and the folds that merge them, in any order and grouping, with repeats."""
    deltas = draw(DELTAS)
    numbers = range(len(deltas))
    order = draw(st.permutations(numbers)) + (draw(st.lists(st.sampled_from(numbers))) if deltas else [])
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    return deltas, [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]


@given(histories())
def test_the_ledger_depends_only_on_the_set_of_deltas(history: tuple[list[Delta], list[list[int]]]) -> None:
    deltas, folds = history
    at_once, in_turn = Folds(deltas), Folds(deltas)
    at_once.fold(range(len(deltas)))
    for fold in folds:
        in_turn.fold(fold)
    assert in_turn.ledger == at_once.ledger


@given(histories())
def test_every_fold_conserves_its_sums_and_the_records_equal_those_of_a_simple_model(
    history: tuple[list[Delta], list[list[int]]],
) -> None:
    deltas, folds = history
    in_turn = Folds(deltas)
    records: dict[str | None, object] = {}
    for fold in folds:
        plan = in_turn.fold(fold)
        assert plan.conservation.holds()
        if plan.restarts:
            records.clear()
        for row_id in [*plan.deletes, *plan.replacements.ids()]:
            del records[row_id]
        for part in plan.written(1000, ("id", "embedding")):
            records |= dict(zip(ids(part), part["embedding"].to_pylist(), strict=True))
    state = applied_in_order(deltas)
    assert records == {row_id: [float(value)] for row_id, value in state.items() if value is not None}
    assert sorted(state, key=str.encode) == ids(in_turn.ledger)


@given(histories())
def test_the_published_sum_is_the_sum_of_the_live_rows(history: tuple[list[Delta], list[list[int]]]) -> None:
    deltas, folds = history
    in_turn = Folds(deltas)
    for fold in folds:
        plan = in_turn.fold(fold)
    live = [row for row in plan.ledger.to_pylist() if not row["deleted"]]
    assert plan.conservation.next == hex128(sum_rows((row["id"], row["fingerprint"]) for row in live))
    assert plan.counts.records == len(live)
