"""Merging: the newest version of each id, in any order of arrival."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.rows.fingerprints import DELETED
from chromadb_compaction.rows.merging import newest
from chromadb_compaction.rows.runs import run_dimension, run_schema
from chromadb_compaction.rows.spill import SpillingMerge
from tests.runs import decode_run, encode_run


class Row(NamedTuple):
    id: str
    delta: int
    row: int
    deleted: bool
    content: int

    @property
    def fingerprint(self) -> bytes:
        return DELETED if self.deleted else bytes([self.content + 1]) * 32


rows = st.builds(
    Row,
    st.sampled_from(["", "a", "b", "ä", "aa"]),
    st.integers(0, 3),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 2),
)
tables = st.lists(st.lists(rows, max_size=6), max_size=5)


def a_run(given_rows: Sequence[Row]) -> pa.Table:
    """A table with the columns of a run, in the order given. Without upserts it has no dimension."""
    dimension = None if all(row.deleted for row in given_rows) else 2
    return pa.Table.from_pylist(
        [
            {
                "id": row.id,
                "delta": row.delta.to_bytes(16, "big"),
                "row": row.row,
                "deleted": row.deleted,
                "fingerprint": row.fingerprint,
                "embedding": None if row.deleted else [row.content, float(row.delta)],
                "document": None if row.deleted else f"{row.content}",
                "metadata": None,
            }
            for row in given_rows
        ],
        schema=run_schema(dimension),
    )


def newest_by_tuples(given_rows: Sequence[Row]) -> list[tuple[str, int, int, bytes]]:
    """The same rule, on Python tuples."""
    best: dict[str, tuple[int, int, bytes]] = {}
    for row in given_rows:
        version = (row.delta, row.row, row.fingerprint)
        best[row.id] = max(best.get(row.id, version), version)
    return [(row_id, *best[row_id]) for row_id in sorted(best, key=str.encode)]


def versions(table: pa.Table) -> list[tuple[Any, ...]]:
    return [
        (row["id"], int.from_bytes(row["delta"], "big"), row["row"], row["fingerprint"]) for row in table.to_pylist()
    ]


def same(one: pa.Table, other: pa.Table) -> bool:
    return one.schema == other.schema and one.to_pylist() == other.to_pylist()


@given(tables)
def test_newest_agrees_with_comparing_tuples(parts: list[list[Row]]) -> None:
    merged = newest([a_run(part) for part in parts])

    assert versions(merged) == newest_by_tuples([row for part in parts for row in part])


@given(tables, st.randoms(use_true_random=False))
def test_order_and_batching_do_not_matter(parts: list[list[Row]], chance: random.Random) -> None:
    everything = [row for part in parts for row in part]
    chance.shuffle(everything)

    assert same(newest([a_run([row]) for row in everything]), newest([a_run(part) for part in parts]))


@given(tables, tables)
def test_merging_runs_of_runs_equals_merging_all_at_once(one: list[list[Row]], other: list[list[Row]]) -> None:
    first, second = [a_run(part) for part in one], [a_run(part) for part in other]
    stepwise = newest([newest(first), newest(second)])

    assert versions(stepwise) == versions(newest(first + second))


@given(tables)
def test_merging_again_changes_nothing(parts: list[list[Row]]) -> None:
    once = newest([a_run(part) for part in parts])

    assert same(newest([once, once]), once)


def test_a_late_older_upsert_does_not_resurrect_a_deleted_id() -> None:
    deleted = a_run([Row("a", 2, 0, deleted=True, content=0)])
    late = a_run([Row("a", 1, 5, deleted=False, content=1)])

    assert newest([deleted, late])["deleted"].to_pylist() == [True]


@given(st.integers(0, 2**48 - 2), st.integers(1, 2**20), st.integers(0, 2**62 - 1), st.integers(0, 2**62 - 1))
def test_a_later_delta_wins_whatever_its_random_part_and_row(moment: int, later: int, one: int, other: int) -> None:
    earlier, newer = (
        UUID(int=millisecond << 80 | 7 << 76 | 2 << 62 | tail).int
        for millisecond, tail in ((moment, one), (min(moment + later, 2**48 - 1), other))
    )
    old = Row("a", earlier, 2**32 - 1, deleted=False, content=254)
    new = Row("a", newer, 0, deleted=True, content=0)

    assert newest([a_run([new, old])])["deleted"].to_pylist() == [True]


def test_of_two_rows_of_one_delta_the_later_row_wins() -> None:
    table = a_run([Row("a", 1, 0, deleted=False, content=0), Row("a", 1, 1, deleted=False, content=1)])

    assert newest([table])["document"].to_pylist() == ["1"]


def test_a_delete_loses_against_an_upsert_with_the_same_delta_and_row() -> None:
    table = a_run([Row("a", 1, 0, deleted=True, content=0), Row("a", 1, 0, deleted=False, content=0)])

    assert newest([table])["deleted"].to_pylist() == [False]


def test_a_run_without_upserts_gets_the_dimension_of_the_others() -> None:
    merged = newest(
        [a_run([Row("a", 1, 0, deleted=True, content=0)]), a_run([Row("b", 1, 0, deleted=False, content=1)])]
    )

    assert run_dimension(merged) == 2
    assert merged["embedding"].to_pylist() == [None, [1, 1]]


def test_runs_of_different_dimensions_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"dimensions \[2, 3\]"):
        newest([run_schema(2).empty_table(), run_schema(3).empty_table()])


def test_no_runs_give_an_empty_run() -> None:
    assert newest([]).schema == run_schema(None)


@given(st.lists(rows, max_size=6))
def test_a_run_is_stored_and_read_back_unchanged(given_rows: list[Row]) -> None:
    table = newest([a_run(given_rows)])

    assert same(decode_run(encode_run(table)), table)


@given(st.lists(rows, max_size=6))
def test_equal_runs_are_stored_as_equal_bytes(given_rows: list[Row]) -> None:
    one, other = (newest([a_run(part)]) for part in (given_rows, given_rows[::-1]))

    assert encode_run(one) == encode_run(other)


@given(tables, st.sampled_from([1, 300, 10**6]), st.sampled_from([1, 200, 10**6]))
def test_merging_with_spills_gives_the_same_run(parts: list[list[Row]], held_bytes: int, piece_bytes: int) -> None:
    everything = [a_run(part) for part in parts]
    with TemporaryDirectory() as directory:
        merge = SpillingMerge(Path(directory), held_bytes=held_bytes, piece_bytes=piece_bytes)
        for table in everything:
            merge.add(table)
        count = merge.write(Path(directory, "run.parquet"))
        merged = decode_run(Path(directory, "run.parquet").read_bytes())

    assert same(merged, newest(everything))
    assert count == merged.num_rows
