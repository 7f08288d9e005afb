"""The files of a function's runs: they have every row of its folds, and only the row groups that may have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.fold import run_files
from chromadb_compaction.fold.distribution import FoldInput
from chromadb_compaction.fold.run_files import download_runs
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.messages import MergedBatch
from chromadb_compaction.rows import runs
from chromadb_compaction.rows.batch_run import BatchRun, RunPart
from chromadb_compaction.rows.id_ranges import IdRange, ranges
from chromadb_compaction.rows.run_rows import stored_rows
from chromadb_compaction.rows.shapes import CollectionChange
from tests.fakes.services import Fakes, new_fakes
from tests.runs import a_run

RUN = "work/run.parquet"
IDS = st.sets(st.text("abcd", min_size=1, max_size=3), max_size=12)
CHANGE = CollectionChange()


@pytest.fixture(autouse=True)
def _two_rows_in_a_row_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "ROW_GROUP", 2)


def store(fakes: Fakes, directory: Path, contents: Mapping[str, Sequence[str]]) -> list[RunPart]:
    """Store the run of a batch with these ids of each collection."""
    merge = BatchRun(directory)
    for name, ids in contents.items():
        merge.begin(name)
        merge.add(a_run({each: [len(each)] for each in ids}), CHANGE)
    parts = merge.finish()
    fakes.objects.put(RUN, merge.file.read_bytes() if parts else b"")
    return parts


def the_input(parts: list[RunPart], units: Sequence[FoldUnit]) -> FoldInput:
    size, names = sum(part.bytes for part in parts), len(parts)
    merged = MergedBatch(
        collection="docs",
        collections=names,
        run=RUN,
        report="",
        merged=1,
        quarantined=0,
        missing=0,
        rows=1,
        bytes=size,
    )
    return FoldInput("execution", 1, [merged], [parts], units)


def rows_of(files: Sequence[Path], ids: IdRange) -> list[dict[str, Any]]:
    rows = stored_rows(files, ids)
    parts = list(rows.select(ids.mask(rows.keys["id"])).parts(100, ("id", "embedding", "document")))
    return pa.concat_tables(parts).to_pylist() if parts else []


def downloaded(fakes: Fakes, parts: list[RunPart], units: Sequence[FoldUnit], into: Path) -> dict[str, list[Path]]:
    return download_runs(the_input(parts, units), units, fakes.services, into)


@given(st.lists(IDS, min_size=1, max_size=3), st.sets(st.text("abcd", min_size=1, max_size=2), max_size=4), st.data())
def test_each_fold_finds_its_rows_in_what_was_downloaded(
    contents: list[set[str]], borders: set[str], data: st.DataObject
) -> None:
    fakes = new_fakes()
    collections = {f"c{number}": sorted(ids) for number, ids in enumerate(contents)}
    every = [FoldUnit(name, *ids) for name in collections for ids in ranges(["", *sorted(borders)])]
    units = data.draw(st.lists(st.sampled_from(every), unique=True))
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_files, "GAP_BYTES", data.draw(st.sampled_from([0, 10**6])))
        patched.setattr(run_files, "REQUEST_BYTES", data.draw(st.sampled_from([1, 10**6])))
        Path(name, "merge").mkdir()
        parts = store(fakes, Path(name, "merge"), collections)
        files = downloaded(fakes, parts, units, Path(name, "runs"))
        found = {unit: rows_of(files.get(unit.collection, []), unit.ids) for unit in units}

    assert {unit: [row["id"] for row in rows] for unit, rows in found.items()} == {
        unit: [each for each in collections[unit.collection] if unit.ids.holds(each)] for unit in units
    }
    assert all(row["embedding"] == [len(row["id"])] for rows in found.values() for row in rows)


@pytest.fixture
def fakes() -> Fakes:
    """Return an empty bucket."""
    return new_fakes()


def test_only_the_row_groups_of_the_fold_are_read(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_files, "GAP_BYTES", 0)
    parts = store(fakes, tmp_path, {"docs": "abcdefgh", "other": "abcd"})
    pieces = parts[0].pieces
    assert ([piece.first for piece in pieces], [piece.first for piece in parts[1].pieces]) == (
        ["a", "c", "e", "g", None],
        ["a", "c", None],
    )
    assert [sum(piece.bytes for piece in part.pieces) for part in parts] == [part.bytes for part in parts]
    asked: list[int] = []
    right = fakes.objects.get_range

    def watched(key: str, start: int, end: int) -> bytes:
        asked.append(end - start)
        return right(key, start, end)

    monkeypatch.setattr(fakes.objects, "get_range", watched)

    files = downloaded(fakes, parts, [FoldUnit("docs", "cc", "e")], tmp_path / "runs")

    assert asked == [pieces[1].bytes, pieces[-1].bytes]
    with pytest.raises(OSError, match="deserialize"):
        rows_of(files["docs"], IdRange("e", "g"))


def test_all_of_a_run_is_read_with_one_request(fakes: Fakes, tmp_path: Path) -> None:
    parts = store(fakes, tmp_path, {"docs": "abcdefgh", "other": "abcd"})
    fakes.objects.calls.clear()

    downloaded(fakes, parts, [FoldUnit("docs"), FoldUnit("other")], tmp_path / "runs")

    assert fakes.objects.calls == [("get_range", RUN)]


@pytest.mark.parametrize("damage", [lambda body: body[:-1], lambda body: body.replace(b"PAR1", b"PAR2")])
def test_a_run_that_is_not_what_was_stored_is_an_error(fakes: Fakes, tmp_path: Path, damage: object) -> None:
    parts = store(fakes, tmp_path, {"docs": "abcdefgh"})
    assert callable(damage)
    fakes.objects.put(RUN, damage(fakes.objects.get(RUN).body))

    with pytest.raises(SnapshotCorruptError, match=r"run\.parquet is not what MergeBatch has stored"):
        downloaded(fakes, parts, [FoldUnit("docs", "a", "c")], tmp_path / "runs")


def test_a_run_of_an_earlier_version_is_read_whole(fakes: Fakes, tmp_path: Path) -> None:
    parts = store(fakes, tmp_path, {"docs": "abcdefgh", "other": "abcd"})
    earlier = [part.model_copy(update={"pieces": ()}) for part in parts]

    files = downloaded(fakes, earlier, [FoldUnit("docs", "a", "c")], tmp_path / "runs")

    assert [row["id"] for row in rows_of(files["docs"], IdRange("a", None))] == list("abcdefgh")
    assert downloaded(fakes, earlier, [FoldUnit("third")], tmp_path / "none") == {}
