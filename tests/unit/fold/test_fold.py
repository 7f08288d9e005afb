"""Folding one collection, and several at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import namedtuple
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from chromadb_compaction.chroma.client import CollectionSpec, open_collection
from chromadb_compaction.chroma.loader import ApiLoader, PartSeconds, Progress
from chromadb_compaction.errors import CompactionError, SnapshotTooLargeError, VerificationError
from chromadb_compaction.fold import workers
from chromadb_compaction.fold.fold import FoldRequest, FoldResult, fold_collection
from chromadb_compaction.fold.workers import fold_in_worker, run_folds
from chromadb_compaction.rows.ledger import FoldPlan, decode_ledger
from chromadb_compaction.rows.run_rows import SelectedRows
from tests.runs import a_run, encode_run


class Collection:
    """One collection's place on disk, folded again and again."""

    def __init__(self, place: Path, name: str = "docs") -> None:
        self.name = name
        self.directory = place / name / "chroma"
        self.ledger = place / name / "ledger.parquet"
        self.place = place / name
        self.place.mkdir()

    def request(self, *runs: pa.Table, dimension: int | None = None, base_sum: str | None = None) -> FoldRequest:
        paths = [self.place / f"run-{number}.parquet" for number in range(len(runs))]
        for path, run in zip(paths, runs, strict=True):
            path.write_bytes(encode_run(run))
        return FoldRequest(
            collection=self.name,
            dimension=dimension,
            space="l2",
            directory=self.directory,
            ledger=self.ledger if self.ledger.exists() else None,
            base_sum=base_sum,
            runs=paths,
            next_ledger=self.ledger,
        )

    def fold(self, *runs: pa.Table, dimension: int | None = None) -> FoldResult:
        return fold_collection(self.request(*runs, dimension=dimension))

    def ids(self) -> set[str]:
        with open_collection(self.directory, self.name) as collection:
            return set(collection.get()["ids"])

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.directory)): path.read_bytes()
            for path in self.directory.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def docs(tmp_path: Path) -> Collection:
    return Collection(tmp_path)


def test_several_runs_are_folded_as_one_and_the_newest_version_wins(docs: Collection) -> None:
    result = docs.fold(a_run({"a": [2, 0]}, delta=2), a_run({"a": [1, 0], "b": [1, 1]}, delta=1))
    assert (result.counts.added, result.counts.records, result.dimension) == (2, 2, 2)
    assert (result.records_changed, result.ledger_changed) == (True, True)
    with open_collection(docs.directory, "docs") as collection:
        assert np.array_equal(np.asarray(collection.get(ids=["a"], include=["embeddings"])["embeddings"]), [[2, 0]])
    assert decode_ledger(docs.ledger.read_bytes())["id"].to_pylist() == ["a", "b"]
    assert list(result.seconds) == ["plan", "load", "load.records", "load.index", "verify", "finalize", "ledger"]


def test_a_fold_of_what_is_known_touches_no_file(docs: Collection) -> None:
    run = a_run({"a": [1, 0]}, deletes={"b"})
    docs.fold(run)
    before = docs.files(), docs.ledger.stat().st_mtime_ns
    result = docs.fold(run, dimension=2)
    assert (result.records_changed, result.ledger_changed) == (False, False)
    assert (docs.files(), docs.ledger.stat().st_mtime_ns) == before


def test_a_fold_that_moves_versions_only_leaves_the_chromadb_directory_as_it_was(docs: Collection) -> None:
    docs.fold(a_run({"a": [1, 0]}, delta=1))
    before = docs.files()
    result = docs.fold(a_run({"a": [1, 0]}, deletes={"never seen"}, delta=2), dimension=2)
    assert (result.records_changed, result.ledger_changed) == (False, True)
    assert docs.files() == before
    assert [row["delta"][-1] for row in decode_ledger(docs.ledger.read_bytes()).to_pylist()] == [2, 2]


def test_deletes_alone_make_a_ledger_and_no_chromadb_directory(docs: Collection) -> None:
    result = docs.fold(a_run(deletes={"a"}, delta=5))
    assert (result.dimension, result.counts.tombstones, docs.directory.exists()) == (None, 1, False)
    late = docs.fold(a_run({"a": [1, 0], "b": [1, 0]}, delta=4))
    assert (late.dimension, late.counts.stale, docs.ids()) == (2, 1, {"b"})


def test_a_run_of_another_dimension_is_refused(docs: Collection) -> None:
    with pytest.raises(VerificationError, match="the runs hold 2 dimensions, the collection 3"):
        docs.fold(a_run({"a": [1, 0]}), dimension=3)


def test_a_ledger_that_is_not_what_the_manifest_states_is_refused_before_chromadb_is_opened(docs: Collection) -> None:
    with pytest.raises(VerificationError, match="docs: the next ledger does not follow from the base"):
        fold_collection(docs.request(a_run({"a": [1, 0]}), base_sum="1" * 32))
    assert not docs.directory.exists()


def test_a_loader_that_loses_a_row_is_caught(docs: Collection) -> None:
    class Lossy:
        name = "lossy"

        def apply(self, directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> PartSeconds:
            rows = plan.inserts
            lossy = SelectedRows(rows._pieces, rows._at[1:], rows._ids[1:])
            return ApiLoader().apply(directory, spec, plan._replace(inserts=lossy), progress=progress)

    with pytest.raises(VerificationError, match="docs: ChromaDB counts 1 records, the ledger 2"):
        fold_collection(docs.request(a_run({"a": [1, 0], "b": [1, 0]})), loader=Lossy())
    assert not docs.ledger.exists()


def test_a_disk_too_small_is_said_so_before_anything_is_changed(
    docs: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")  # noqa: PYI024 - what shutil returns
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free=10))
    with pytest.raises(SnapshotTooLargeError, match="10 are free; raise the compactor's ephemeral storage"):
        docs.fold(a_run({"a": [1, 0]}))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every fold a process of its own, however small and wherever the tests run."""
    monkeypatch.setattr(workers, "PROCESS_BYTES", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)


def test_collections_fold_in_processes_of_their_own(tmp_path: Path, processes: None) -> None:
    collections = [Collection(tmp_path, name) for name in ("one", "two", "three")]
    results = run_folds([collection.request(a_run({collection.name: [1, 0]})) for collection in collections])
    assert [result.collection for result in results] == ["one", "two", "three"]
    assert [collection.ids() for collection in collections] == [{"one"}, {"two"}, {"three"}]
    assert all(result.conservation.holds() for result in results)


def test_collections_that_memory_does_not_hold_together_fold_one_after_the_other(
    tmp_path: Path, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "fold_in_worker", None)
    collections = [Collection(tmp_path, name) for name in ("one", "two")]
    results = run_folds([collection.request(a_run({collection.name: [1, 0]})) for collection in collections], at_once=1)
    assert [result.counts.records for result in results] == [1, 1]


def test_collections_that_would_share_their_cores_fold_one_after_the_other(
    tmp_path: Path, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "fold_in_worker", None)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    collections = [Collection(tmp_path, name) for name in ("one", "two")]
    results = run_folds([collection.request(a_run({collection.name: [1, 0]})) for collection in collections])
    assert [result.counts.records for result in results] == [1, 1]


def test_small_collections_fold_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "fold_in_worker", None)
    collections = [Collection(tmp_path, name) for name in ("one", "two")]
    results = run_folds([collection.request(a_run({collection.name: [1, 0]})) for collection in collections])
    assert [result.counts.records for result in results] == [1, 1]


def test_an_error_of_ours_crosses_the_process_with_its_name_and_message(docs: Collection) -> None:
    with pytest.raises(VerificationError, match="the runs hold 2 dimensions, the collection 3"):
        fold_in_worker(docs.request(a_run({"a": [1, 0]}), dimension=3))


def test_an_unexpected_error_in_a_process_is_an_error_here(docs: Collection, capfd: pytest.CaptureFixture[str]) -> None:
    request = docs.request(a_run({"a": [1, 0]}))
    request.runs[0].write_bytes(b"no Parquet")
    with pytest.raises(CompactionError, match="docs: the fold's process ended with status 1"):
        fold_in_worker(request)
    assert "ArrowInvalid" in capfd.readouterr().err


def test_a_process_that_is_killed_asks_for_more_memory(docs: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledAtOnce(subprocess.Popen[bytes]):
        def communicate(self, *args: object, **kwargs: object) -> tuple[bytes, bytes]:
            self.send_signal(signal.SIGKILL)
            return b"", b""

    monkeypatch.setattr(subprocess, "Popen", KilledAtOnce)
    with pytest.raises(SnapshotTooLargeError, match="docs: the fold was killed"):
        fold_in_worker(docs.request(a_run({"a": [1, 0]})))


def test_a_lost_lease_kills_the_process(docs: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise TimeoutError("the lease is lost")

    monkeypatch.setattr(workers, "PROGRESS_SECONDS", 0.01)
    with pytest.raises(TimeoutError, match="lease"):
        fold_in_worker(docs.request(a_run({"a": [1, 0]})), progress=lost)
    assert not docs.directory.exists()
