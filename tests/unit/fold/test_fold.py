"""Folds of one collection, and of several at once."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
from collections import namedtuple
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from chromadb_compaction.chroma.client import CollectionSpec, open_collection
from chromadb_compaction.chroma.index_files import entries
from chromadb_compaction.chroma.loader import ApiLoader, Loaded, Progress
from chromadb_compaction.errors import CompactionError, DiskFullError, SnapshotTooLargeError, VerificationError
from chromadb_compaction.fold import workers
from chromadb_compaction.fold.fold import FoldRequest, FoldResult, fold_collection
from chromadb_compaction.fold.workers import fold_in_worker, run_folds
from chromadb_compaction.rows.ledger import FoldPlan, decode_ledger
from chromadb_compaction.rows.run_rows import SelectedRows
from tests.runs import a_run, encode_run


class LocalCollection:
    """A collection on the local disk that is folded several times."""

    def __init__(self, parent: Path, name: str = "docs") -> None:
        self.name = name
        self.directory = parent / name / "chroma"
        self.ledger = parent / name / "ledger.parquet"
        self.parent = parent / name
        self.parent.mkdir()

    def request(self, *runs: pa.Table, dimension: int | None = None, base_sum: str | None = None) -> FoldRequest:
        paths = [self.parent / f"run-{number}.parquet" for number in range(len(runs))]
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
def docs(tmp_path: Path) -> LocalCollection:
    return LocalCollection(tmp_path)


def test_several_runs_are_folded_as_one_and_the_newest_version_wins(docs: LocalCollection) -> None:
    result = docs.fold(a_run({"a": [2, 0]}, delta=2), a_run({"a": [1, 0], "b": [1, 1]}, delta=1))
    assert (result.counts.added, result.counts.records, result.dimension) == (2, 2, 2)
    assert (result.records_changed, result.changed) == (True, True)
    with open_collection(docs.directory, "docs") as collection:
        assert np.array_equal(np.asarray(collection.get(ids=["a"], include=["embeddings"])["embeddings"]), [[2, 0]])
    assert decode_ledger(docs.ledger.read_bytes())["id"].to_pylist() == ["a", "b"]
    assert list(result.seconds) == ["plan", "load", "load.records", "load.index", "verify", "finalize", "ledger"]


def test_a_second_fold_of_the_same_run_changes_no_file(docs: LocalCollection) -> None:
    run = a_run({"a": [1, 0]}, deletes={"b"})
    docs.fold(run)
    before = docs.files(), docs.ledger.stat().st_mtime_ns
    result = docs.fold(run, dimension=2)
    assert (result.records_changed, result.changed) == (False, False)
    assert (docs.files(), docs.ledger.stat().st_mtime_ns) == before


def test_a_fold_that_changes_only_versions_does_not_change_the_chromadb_directory(docs: LocalCollection) -> None:
    docs.fold(a_run({"a": [1, 0]}, delta=1))
    before = docs.files()
    result = docs.fold(a_run({"a": [1, 0]}, deletes={"never seen"}, delta=2), dimension=2)
    assert (result.records_changed, result.changed) == (False, True)
    assert docs.files() == before
    assert [row["delta"][-1] for row in decode_ledger(docs.ledger.read_bytes()).to_pylist()] == [2, 2]


def test_a_run_of_deletes_makes_a_ledger_but_no_chromadb_directory(docs: LocalCollection) -> None:
    result = docs.fold(a_run(deletes={"a"}, delta=5))
    assert (result.dimension, result.counts.tombstones, docs.directory.exists()) == (None, 1, False)
    late = docs.fold(a_run({"a": [1, 0], "b": [1, 0]}, delta=4))
    assert (late.dimension, late.counts.stale, docs.ids()) == (2, 1, {"b"})


def test_a_run_of_another_dimension_is_refused(docs: LocalCollection) -> None:
    with pytest.raises(VerificationError, match="the runs hold 2 dimensions, the collection 3"):
        docs.fold(a_run({"a": [1, 0]}), dimension=3)


def test_a_ledger_that_does_not_match_the_manifest_is_refused_before_chromadb_is_opened(docs: LocalCollection) -> None:
    with pytest.raises(VerificationError, match="docs: the next ledger does not follow from the base"):
        fold_collection(docs.request(a_run({"a": [1, 0]}), base_sum="1" * 32))
    assert not docs.directory.exists()


def test_a_loader_that_loses_a_row_is_caught(docs: LocalCollection) -> None:
    class Lossy:
        name = "lossy"

        def apply(self, directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> Loaded:
            rows = plan.inserts
            lossy = SelectedRows(rows._pieces, rows._at[1:], rows._ids[1:])
            return ApiLoader().apply(directory, spec, plan._replace(inserts=lossy), progress=progress)

    with pytest.raises(VerificationError, match="docs: ChromaDB counts 1 records, the ledger 2"):
        fold_collection(docs.request(a_run({"a": [1, 0], "b": [1, 0]})), loader=Lossy())
    assert not docs.ledger.exists()


def test_a_disk_that_is_too_small_is_reported_before_anything_is_changed(
    docs: LocalCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")  # noqa: PYI024 - what shutil returns
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free=10))
    with pytest.raises(SnapshotTooLargeError, match="10 are free; raise the compactor's ephemeral storage"):
        docs.fold(a_run({"a": [1, 0]}))
    assert not any(docs.directory.iterdir())


def test_an_index_whose_vectors_an_older_release_replaced_in_place_is_rebuilt_by_its_next_change(
    docs: LocalCollection,
) -> None:
    vectors = {f"id-{number}": [1.0, number] for number in range(10)}
    docs.fold(a_run(vectors))

    def fold_older(run: pa.Table) -> tuple[int, int]:
        result = fold_collection(docs.request(run, dimension=2).model_copy(update={"replaced_in_place": 3}))
        (header,) = docs.directory.rglob("header.bin")
        return result.replaced_in_place, entries(header.parent)

    only_a_document = a_run({"id-0": vectors["id-0"]}, documents={"id-0": "text"}, delta=2)
    assert fold_older(only_a_document) == (3, 10)
    assert fold_older(a_run({"id-0": [2, 0]}, delta=3)) == (0, 10)


def fold_all(collections: list[LocalCollection], **options: Any) -> list[FoldResult]:
    requests = [collection.request(a_run({collection.name: [1, 0]})) for collection in collections]
    outcomes = run_folds(requests, **options)
    results = [outcome for outcome in outcomes if isinstance(outcome, FoldResult)]
    assert results == outcomes
    return results


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DiskFullError("full"), "full"),
        (MemoryError(), "other: memory ran out in its fold"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk of the function is full"),
    ],
)
def test_a_fold_that_does_not_fit_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, expected: str
) -> None:
    def fold(request: FoldRequest, **options: Any) -> FoldResult:
        if request.collection == "other":
            raise error
        return fold_collection(request, **options)

    monkeypatch.setattr(workers, "fold_collection", fold)
    collections = [LocalCollection(tmp_path, name) for name in ("one", "other", "two")]

    outcomes = run_folds([collection.request(a_run({collection.name: [1, 0]})) for collection in collections])

    assert [isinstance(outcome, FoldResult) for outcome in outcomes] == [True, False, True]
    assert expected in str(outcomes[1])


def test_folds_are_marked_in_groups_and_large_ones_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "GROUP", 2)
    monkeypatch.setattr(workers, "_bytes_on_disk", lambda request: 10**9 if request.collection == "large" else 1)
    names = ["one", "large", "two", "three", "four"]
    groups = []

    def marked(group: Sequence[FoldRequest]) -> AbstractContextManager[None]:
        groups.append([request.collection for request in group])
        return nullcontext()

    results = fold_all([LocalCollection(tmp_path, name) for name in names], marked=marked)

    assert groups == [["one"], ["large"], ["two", "three"], ["four"]]
    assert [result.collection for result in results] == names


@pytest.fixture
def worker_per_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every fold in a worker, for any size and on any machine."""
    monkeypatch.setattr(workers, "PROCESS_BYTES", 0)
    monkeypatch.setattr(workers, "index_threads", lambda: 4)


def test_large_collections_fold_in_workers(tmp_path: Path, worker_per_fold: None) -> None:
    collections = [LocalCollection(tmp_path, name) for name in ("one", "two", "three")]
    results = fold_all(collections)
    assert [result.collection for result in results] == ["one", "two", "three"]
    assert [collection.ids() for collection in collections] == [{"one"}, {"two"}, {"three"}]
    assert all(result.conservation.holds() for result in results)


def test_collections_that_do_not_fit_in_memory_together_fold_one_after_the_other(
    tmp_path: Path, worker_per_fold: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "fold_in_worker", None)
    collections = [LocalCollection(tmp_path, name) for name in ("one", "two")]
    results = fold_all(collections, at_once=1)
    assert [result.counts.records for result in results] == [1, 1]


def test_collections_that_would_share_their_cores_fold_one_after_the_other(
    tmp_path: Path, worker_per_fold: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "fold_in_worker", None)
    monkeypatch.setattr(workers, "index_threads", lambda: 3)
    collections = [LocalCollection(tmp_path, name) for name in ("one", "two")]
    results = fold_all(collections)
    assert [result.counts.records for result in results] == [1, 1]


def test_small_collections_fold_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "fold_in_worker", None)
    collections = [LocalCollection(tmp_path, name) for name in ("one", "two")]
    results = fold_all(collections)
    assert [result.counts.records for result in results] == [1, 1]


def test_a_workers_error_is_raised_here_with_its_class_and_message(docs: LocalCollection) -> None:
    with pytest.raises(VerificationError, match="the runs hold 2 dimensions, the collection 3"):
        fold_in_worker(docs.request(a_run({"a": [1, 0]}), dimension=3))


def test_an_unexpected_error_in_a_worker_is_a_compaction_error_here(
    docs: LocalCollection, capfd: pytest.CaptureFixture[str]
) -> None:
    request = docs.request(a_run({"a": [1, 0]}))
    request.runs[0].write_bytes(b"not Parquet")
    with pytest.raises(CompactionError, match="docs: the fold's process ended with status 1"):
        fold_in_worker(request)
    assert "ArrowInvalid" in capfd.readouterr().err


def test_the_error_about_a_killed_worker_asks_for_more_memory(
    docs: LocalCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledAtOnce(subprocess.Popen[bytes]):
        def communicate(self, *args: object, **kwargs: object) -> tuple[bytes, bytes]:
            self.send_signal(signal.SIGKILL)
            return b"", b""

    monkeypatch.setattr(subprocess, "Popen", KilledAtOnce)
    with pytest.raises(SnapshotTooLargeError, match=r"docs: the fold was killed.*; raise the compactor's memory"):
        fold_in_worker(docs.request(a_run({"a": [1, 0]})))


def test_a_lost_lease_kills_the_worker(docs: LocalCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise TimeoutError("the lease is lost")

    monkeypatch.setattr(workers, "PROGRESS_SECONDS", 0.01)
    with pytest.raises(TimeoutError, match="lease"):
        fold_in_worker(docs.request(a_run({"a": [1, 0]})), progress=lost)
    assert not docs.directory.exists()
