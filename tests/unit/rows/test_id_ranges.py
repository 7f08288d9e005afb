"""Ranges of ids: every row of a run is in exactly one, and only the row groups of a range are read."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.rows import runs
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange, groups_between, ranges
from chromadb_compaction.rows.run_rows import stored_rows
from tests.runs import a_run, encode_run

# Ids that UTF-16 would order differently, and one that is the beginning of others.
IDS = st.text(st.sampled_from("ab\uffee\U0001f600"), min_size=1, max_size=3)


@given(st.lists(st.sets(IDS), min_size=1, max_size=3), st.sets(IDS, max_size=4))
def test_the_ranges_of_partitions_have_each_row_once(contents: list[set[str]], borders: set[str]) -> None:
    firsts = ["", *sorted(borders, key=str.encode)]
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs, "ROW_GROUP_BYTES", 150)  # one or two rows each
        paths = [Path(directory, f"{number}.parquet") for number in range(len(contents))]
        for number, (path, ids) in enumerate(zip(paths, contents, strict=True)):
            path.write_bytes(encode_run(a_run({each: [number, 1] for each in ids}, delta=number)))
        everything = stored_rows(paths)
        pieces = [stored_rows(paths, each) for each in ranges(firsts)]
        found = [sorted(map(str, piece.keys["id"].to_pylist())) for piece in pieces]
        rows = [
            row
            for piece in pieces
            for part in piece.select(ALL_IDS.mask(piece.keys["id"])).parts(2, ("id", "embedding"))
            for row in part.to_pylist()
        ]
        expected = [
            row
            for part in everything.select(ALL_IDS.mask(everything.keys["id"])).parts(100, ("id", "embedding"))
            for row in part.to_pylist()
        ]
    assert found == [
        sorted(each for each in set().union(*contents) if bisect_right(firsts, each) - 1 == number)
        for number in range(len(firsts))
    ]
    assert sorted(rows, key=lambda row: row["id"]) == sorted(expected, key=lambda row: row["id"])


def test_only_the_row_groups_of_the_range_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "ROW_GROUP_BYTES", 1)
    path = tmp_path / "run.parquet"
    path.write_bytes(encode_run(a_run({f"row-{number}": [number, 0] for number in range(8)})))
    footer = pq.read_metadata(path)
    assert list(groups_between(footer, ALL_IDS)) == list(range(8))
    assert list(groups_between(footer, IdRange("row-2", "row-5"))) == [2, 3, 4]
    assert list(groups_between(footer, IdRange("row-20", "row-4"))) == [2, 3]
    assert list(groups_between(footer, IdRange("", "row-0"))) == []
    assert list(groups_between(footer, IdRange("row-7", None))) == [7]
    assert list(groups_between(footer, IdRange("row-70", None))) == []


def test_all_row_groups_are_read_of_a_run_that_does_not_state_its_ids(tmp_path: Path) -> None:
    pq.write_table(a_run({"a": [1], "b": [2], "c": [3]}), tmp_path / "old.parquet", row_group_size=1)

    assert list(groups_between(pq.read_metadata(tmp_path / "old.parquet"), IdRange("b", "c"))) == [0, 1, 2]
    assert stored_rows([tmp_path / "old.parquet"], IdRange("b", "c")).keys["id"].to_pylist() == ["b"]
