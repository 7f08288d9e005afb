"""Folds of partitions: together they are the fold of the whole collection."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from chromadb_compaction.chroma.client import open_collection
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.fold import workers
from chromadb_compaction.fold.fold import FoldRequest, FoldResult, fold_collection
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.fold.workers import run_folds
from chromadb_compaction.manifest import Conservation
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange, ranges
from chromadb_compaction.rows.ledger import decode_ledger
from tests.runs import a_run, encode_run

FIRSTS = ["", "row-3", "row-6"]
"""The least ids of the partitions are ids of rows, so that a wrong comparison loses or repeats a row."""


def a_request(parent: Path, ids: IdRange, runs: list[Path], before: FoldResult | None = None) -> FoldRequest:
    directory = parent / (ids.first or "least")
    return FoldRequest(
        collection="docs",
        dimension=before.dimension if before else None,
        space="l2",
        directory=directory / "chroma",
        ledger=directory / "ledger.parquet" if before else None,
        base_sum=before.conservation.next if before else None,
        runs=runs,
        next_ledger=directory / "ledger.parquet",
        ids=ids,
    )


def written(parent: Path, name: str, run: pa.Table) -> Path:
    parent.mkdir(exist_ok=True)
    path = parent / f"{name}.parquet"
    path.write_bytes(encode_run(run))
    return path


def ids_of(request: FoldRequest) -> set[str]:
    with open_collection(request.directory, "docs") as collection:
        return set(collection.get()["ids"])


def test_the_folds_of_all_partitions_are_the_fold_of_the_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PROCESS_BYTES", 0)
    monkeypatch.setattr(workers, "CORES_PER_FOLD", 1)
    first = written(tmp_path, "first", a_run({f"row-{n}": [n, 0] for n in range(9)}, delta=1))
    second = written(tmp_path, "second", a_run({"row-3": [3, 1], "row-9": [9, 9]}, {"row-6"}, delta=2))
    whole = a_request(tmp_path / "whole", ALL_IDS, [first])
    whole.directory.parent.mkdir(parents=True)
    whole = a_request(tmp_path / "whole", ALL_IDS, [second], fold_collection(whole))
    expected = fold_collection(whole)

    parts = [a_request(tmp_path / "parts", ids, [first]) for ids in ranges(FIRSTS)]
    for part in parts:
        part.directory.parent.mkdir(parents=True)
    before = [each for each in run_folds(parts) if isinstance(each, FoldResult)]
    parts = [
        a_request(tmp_path / "parts", ids, [second], each) for ids, each in zip(ranges(FIRSTS), before, strict=True)
    ]
    after = [each for each in run_folds(parts) if isinstance(each, FoldResult)]

    assert [each.unit for each in parts] == [FoldUnit("docs", *ids) for ids in ranges(FIRSTS)]
    assert [each.counts.records for each in before] == [3, 3, 3]
    assert [ids_of(each) for each in parts] == [
        {"row-0", "row-1", "row-2"},
        {"row-3", "row-4", "row-5"},
        {"row-7", "row-8", "row-9"},
    ]
    assert [each.changed for each in after] == [False, True, True]
    ledgers = [decode_ledger(each.next_ledger.read_bytes()) for each in parts]
    assert pa.concat_tables(ledgers).to_pylist() == decode_ledger(whole.next_ledger.read_bytes()).to_pylist()
    assert Conservation.total([each.conservation for each in after]) == expected.conservation


def test_a_ledger_with_ids_of_another_partition_is_refused(tmp_path: Path) -> None:
    run = written(tmp_path, "run", a_run({"row-1": [1, 0], "row-3": [3, 0]}))
    request = a_request(tmp_path, ALL_IDS, [run])
    request.directory.parent.mkdir(parents=True)
    before = fold_collection(request)
    again = a_request(tmp_path, IdRange("", "row-3"), [run], before)

    with pytest.raises(VerificationError, match="outside its partition"):
        fold_collection(again)
