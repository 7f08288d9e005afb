"""The rows of several runs, read from their files piece by piece."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.rows import runs
from chromadb_compaction.rows.merging import newest
from chromadb_compaction.rows.run_rows import KEY_SCHEMA, RunRows, stored_rows
from chromadb_compaction.rows.runs import encode_run
from tests.runs import a_run

ALL = ("id", "embedding", "document", "metadata")
RUNS = st.lists(
    st.dictionaries(st.sampled_from("abcdefg"), st.none() | st.integers(0, 3), max_size=7), min_size=1, max_size=4
)


def the_run(number: int, rows: dict[str, int | None]) -> pa.Table:
    upserts = {row_id: [float(value), number] for row_id, value in rows.items() if value is not None}
    documents = {row_id: f"{row_id} of {number}" for row_id in upserts}
    return a_run(
        upserts, {row_id for row_id, value in rows.items() if value is None}, documents=documents, delta=number
    )


def stored(place: str | Path, tables: list[pa.Table]) -> RunRows:
    paths = [Path(place, f"{number}.parquet") for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        path.write_bytes(encode_run(table))
    return stored_rows(paths)


@given(RUNS, st.integers(1, 4), st.data())
def test_what_is_read_piece_by_piece_is_what_merging_them_whole_gives(
    contents: list[dict[str, int | None]], most: int, data: st.DataObject
) -> None:
    tables = [the_run(number, rows) for number, rows in enumerate(contents)]
    with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs, "ROW_GROUP_BYTES", 200)  # a few rows each
        rows = stored(place, tables)
        count = rows.keys.num_rows
        chosen = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=np.bool_)
        some = rows.choose(chosen)
        parts = list(some.parts(most, ALL))
    expected = {row["id"]: row for row in newest(tables).to_pylist()}
    wanted = [row_id for row_id, take in zip(rows.keys["id"].to_pylist(), chosen, strict=True) if take]
    assert rows.keys.sort_by("id").to_pylist() == newest(tables).select(KEY_SCHEMA.names).to_pylist()
    assert (some.num_rows, some.ids()) == (len(wanted), wanted)
    assert [row for part in parts for row in part.to_pylist()] == [
        {column: expected[row_id][column] for column in ALL} for row_id in wanted if row_id is not None
    ]
    assert all(0 < part.num_rows <= most for part in parts)


def test_only_the_columns_that_are_asked_for_are_read_and_a_few_rows_are_told_to_be_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "ROW_GROUP_BYTES", 1)
    rows = stored(tmp_path, [a_run({f"row-{n}": [n, 0] for n in range(5)})])
    first = rows.choose(np.array([True, False, False, False, False]))
    assert [part.column_names for part in first.parts(10, ("id", "document"))] == [["id", "document"]]
    assert first.nbytes < rows.choose(np.ones(5, dtype=np.bool_)).nbytes


def test_no_runs_and_none_chosen_are_no_rows(tmp_path: Path) -> None:
    assert stored_rows([]).keys.num_rows == 0
    rows = stored(tmp_path, [a_run({"a": [1, 0]})])
    nothing = rows.choose(np.zeros(1, dtype=np.bool_))
    assert (nothing.num_rows, nothing.nbytes, list(nothing.parts(10, ALL))) == (0, 0, [])


def test_runs_of_two_dimensions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"runs of dimensions \[1, 2\] cannot be one collection's"):
        stored(tmp_path, [a_run({"a": [1]}), a_run({"b": [1, 0]})])


def test_a_run_of_deletes_alone_has_no_say_in_the_dimension(tmp_path: Path) -> None:
    rows = stored(tmp_path, [a_run(deletes={"a"}), a_run({"b": [1, 0]})])
    assert rows.dimension == 2
