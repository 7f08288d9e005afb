"""The rows of several runs in files, read in pieces."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.rows import run_rows, runs
from chromadb_compaction.rows.merging import newest
from chromadb_compaction.rows.run_rows import LEDGER_SCHEMA, RunRows, stored_rows
from tests.runs import a_run, encode_run

ALL = ("id", "embedding", "document", "metadata", "uri")
RUNS = st.lists(
    st.dictionaries(st.sampled_from("abcdefg"), st.none() | st.integers(0, 3), max_size=7), min_size=1, max_size=4
)


def the_run(number: int, rows: dict[str, int | None]) -> pa.Table:
    upserts = {row_id: [float(value), number] for row_id, value in rows.items() if value is not None}
    documents = {row_id: f"{row_id} of {number}" for row_id in upserts}
    return a_run(
        upserts, {row_id for row_id, value in rows.items() if value is None}, documents=documents, delta=number
    )


def stored(directory: str | Path, tables: list[pa.Table]) -> RunRows:
    paths = [Path(directory, f"{number}.parquet") for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        path.write_bytes(encode_run(table))
    return stored_rows(paths)


@given(RUNS, st.integers(1, 4), st.data())
def test_reading_in_pieces_gives_the_same_rows_as_merging_whole_runs(
    contents: list[dict[str, int | None]], most: int, data: st.DataObject
) -> None:
    tables = [the_run(number, rows) for number, rows in enumerate(contents)]
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs, "ROW_GROUP_BYTES", 200)  # a few rows each
        rows = stored(directory, tables)
        count = rows.keys.num_rows
        selected = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=np.bool_)
        selection = rows.select(selected)
        parts = list(selection.parts(most, ALL))
    expected = {row["id"]: row for row in newest(tables).to_pylist()}
    wanted = [row_id for row_id, take in zip(rows.keys["id"].to_pylist(), selected, strict=True) if take]
    assert rows.keys.sort_by("id").to_pylist() == newest(tables).select(LEDGER_SCHEMA.names).to_pylist()
    assert (selection.num_rows, selection.ids()) == (len(wanted), wanted)
    assert [row for part in parts for row in part.to_pylist()] == [
        {column: expected[row_id][column] for column in ALL} for row_id in wanted if row_id is not None
    ]
    assert all(0 < part.num_rows <= most for part in parts)


def test_only_requested_columns_are_read_and_the_size_is_that_of_the_selected_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "ROW_GROUP_BYTES", 1)
    rows = stored(tmp_path, [a_run({f"row-{n}": [n, 0] for n in range(5)})])
    first = rows.select(np.array([True, False, False, False, False]))
    assert [part.column_names for part in first.parts(10, ("id", "document"))] == [["id", "document"]]
    assert first.nbytes < rows.select(np.ones(5, dtype=np.bool_)).nbytes


def test_no_runs_and_no_selected_rows_give_no_rows(tmp_path: Path) -> None:
    assert stored_rows([]).keys.num_rows == 0
    rows = stored(tmp_path, [a_run({"a": [1, 0]})])
    nothing = rows.select(np.zeros(1, dtype=np.bool_))
    assert (nothing.num_rows, nothing.nbytes, list(nothing.parts(10, ALL))) == (0, 0, [])


def test_runs_of_two_dimensions_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dimensions \[1, 2\]"):
        stored(tmp_path, [a_run({"a": [1]}), a_run({"b": [1, 0]})])


def test_a_run_of_deletes_does_not_affect_the_dimension(tmp_path: Path) -> None:
    rows = stored(tmp_path, [a_run(deletes={"a"}), a_run({"b": [1, 0]})])
    assert rows.dimension == 2


def test_a_run_of_the_version_before_uris_is_read_without_them(tmp_path: Path) -> None:
    old = a_run({"a": [1.0, 2.0]}).drop_columns(["uri"])
    pq.write_table(old, tmp_path / "old.parquet")
    rows = stored_rows([tmp_path / "old.parquet"])

    (part,) = rows.select(np.ones(1, dtype=np.bool_)).parts(10, ("id", "uri"))

    assert part.to_pylist() == [{"id": "a", "uri": None}]


def test_a_part_has_little_metadata_unless_a_single_row_has_more(tmp_path: Path) -> None:
    sizes = {"0": 30, "1": 30, "2": 30, "3": 120, "4": 5, "5": 70, "6": 10}
    metadatas = {name: {"a": "x" * size} for name, size in sizes.items()}
    table = a_run({name: [1.0, 2.0] for name in sizes}, metadatas=metadatas)
    rows = stored(tmp_path, [table])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_rows, "PART_METADATA_BYTES", 100)
        parts = list(rows.select(np.ones(len(sizes), dtype=np.bool_)).parts(10, ALL))
    assert [part["id"].to_pylist() for part in parts] == [["0", "1"], ["2"], ["3"], ["4", "5"], ["6"]]
