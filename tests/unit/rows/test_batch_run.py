"""The run of a batch: each collection finds exactly its own rows again, and a short file is an error."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.rows.batch_run import BatchRun, RunPart, split
from chromadb_compaction.rows.runs import run_schema
from chromadb_compaction.rows.shapes import CollectionChange
from tests.runs import a_run, decode_run

DROP = CollectionChange(dropped_before="01890a5d-ac96-774b-bcce-b302099a8057")


def build(directory: Path, tables: dict[str, list[pa.Table]], change: CollectionChange | None = None) -> list[RunPart]:
    directory.mkdir()
    run = BatchRun(directory)
    for collection, of_collection in tables.items():
        for table in of_collection:
            run.begin(collection)
            assert run.has_space_for(table)
            run.add(table, change or CollectionChange())
    return run.finish()


@given(sizes=st.lists(st.integers(0, 4), max_size=6), dimensions=st.lists(st.integers(1, 3), min_size=6, max_size=6))
def test_each_collection_finds_its_own_rows_again(
    sizes: list[int], dimensions: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("batch")
    tables = {
        f"collection-{number}": [
            a_run({f"{number}-{row}": [1.0] * dimensions[number]}, delta=row + 1) for row in range(size)
        ]
        for number, size in enumerate(sizes)
    }

    parts = build(scratch / "merge", tables)
    files = split(scratch / "merge" / "run.parquet", parts, scratch / "split") if parts else {}

    assert [part.rows for part in parts] == [size for size in sizes if size]
    assert {name: decode_run(file.read_bytes())["id"].to_pylist() for name, file in files.items()} == {
        f"collection-{number}": [f"{number}-{row}" for row in range(size)] for number, size in enumerate(sizes) if size
    }


def test_a_collection_without_rows_keeps_its_change(tmp_path: Path) -> None:
    parts = build(tmp_path / "merge", {"docs": [run_schema(None).empty_table()]}, DROP)

    assert parts == [RunPart(collection="docs", offset=0, bytes=0, rows=0, change=DROP)]
    assert not (tmp_path / "merge" / "run.parquet").exists()


def test_nothing_is_left_of_a_collection_that_neither_has_rows_nor_changes(tmp_path: Path) -> None:
    assert build(tmp_path / "merge", {"docs": [run_schema(None).empty_table()]}) == []


def test_the_spills_of_every_collection_are_removed(tmp_path: Path) -> None:
    build(tmp_path / "merge", {"one": [a_run({"a": [1.0]})], "two": [a_run({"b": [1.0]})]})

    assert [path.name for path in (tmp_path / "merge").rglob("*") if path.is_file()] == ["run.parquet"]


def test_a_run_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    parts = build(tmp_path / "merge", {"one": [a_run({"a": [1.0]})], "two": [a_run({"b": [1.0]})]})
    file = tmp_path / "merge" / "run.parquet"
    file.write_bytes(file.read_bytes()[:-1])

    with pytest.raises(EOFError, match="1 bytes of the run are missing"):
        split(file, parts, tmp_path / "split")
