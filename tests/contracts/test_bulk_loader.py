"""The bulk loader's compatibility check, rebuilds and portions. The contract of every loader is in test_loader.py."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from chromadb_compaction.chroma import compatibility, index_build, schema
from chromadb_compaction.chroma.bulk_loader import BulkLoader, choose_loader
from chromadb_compaction.chroma.client import (
    Collection,
    CollectionSpec,
    create_directory,
    finalize,
    open_collection,
    open_directory,
)
from chromadb_compaction.chroma.compatibility import PROVEN, incompatibility, migrations_digest
from chromadb_compaction.chroma.index_files import entries
from chromadb_compaction.chroma.loader import ApiLoader
from chromadb_compaction.chroma.verification import verify
from chromadb_compaction.configuration import Space
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.fold.fold import no_progress
from chromadb_compaction.rows.ledger import FoldPlan
from chromadb_compaction.settings import MEBIBYTE
from tests.runs import a_run, planned

SPEC = CollectionSpec("docs", 2, "l2")
FIRST = a_run({f"row-{n}": [n, 1] for n in range(20)}, documents={"row-3": "text"}, delta=1)


@pytest.fixture
def base(tmp_path: Path) -> FoldPlan:
    """The plan of twenty rows that are loaded into `tmp_path`."""
    plan = planned(None, FIRST)
    create_directory(tmp_path, SPEC)
    BulkLoader().apply(tmp_path, SPEC, plan, progress=no_progress)
    finalize(tmp_path)
    return plan


def segment(directory: Path) -> Path:
    return next(directory.rglob("header.bin")).parent


def sql(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "chroma.sqlite3")) as database:
        database.execute(statement)
        database.commit()


def add_a_collection(directory: Path) -> None:
    with open_directory(directory) as client:
        client.create_collection("another", embedding_function=None)


def leave_an_operation_queued(directory: Path) -> None:
    with open_collection(directory, "docs") as collection:
        collection.add(ids=["x"], embeddings=np.ones((1, 2), dtype=np.float32))


def test_a_directory_of_the_proven_version_is_loaded_in_bulk(tmp_path: Path, base: FoldPlan) -> None:
    assert incompatibility(tmp_path, SPEC) is None
    assert choose_loader(tmp_path, SPEC).name == "bulk"


def test_a_new_directory_is_loaded_in_bulk(tmp_path: Path) -> None:
    create_directory(tmp_path, SPEC)
    assert choose_loader(tmp_path, SPEC).name == "bulk"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: sql(d, "UPDATE migrations SET hash = 'other' WHERE version = 2"), "its migrations are not those"),
        (
            lambda d: sql(d, "INSERT INTO migrations VALUES ('metadb', 7, 'f', 's', 'h')"),
            "its migrations are not those",
        ),
        (lambda d: sql(d, "UPDATE collections SET name = 'other'"), "not this one alone"),
        (add_a_collection, "it holds 2 collections"),
        (lambda d: sql(d, "UPDATE collections SET dimension = 3"), "has 3 dimensions"),
        (lambda d: sql(d, "UPDATE collections SET schema_str = '{}'"), "schema has another shape"),
        (lambda d: sql(d, "UPDATE collections SET schema_str = NULL"), "schema has another shape"),
        (
            lambda d: sql(d, "UPDATE segments SET type = 'urn:chroma:segment/vector/spann'"),
            "segments are of other types",
        ),
        (leave_an_operation_queued, "index is not flushed"),
        (lambda d: sql(d, "DELETE FROM embeddings_queue"), "index is not flushed"),
    ],
)
def test_an_unfamiliar_directory_is_left_to_the_api_and_the_log_says_why(
    tmp_path: Path, base: FoldPlan, change: Callable[[Path], object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(tmp_path)
    assert choose_loader(tmp_path, SPEC).name == "api"
    assert reason in caplog.text


def test_another_version_of_chromadb_is_left_to_the_api(
    tmp_path: Path, base: FoldPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compatibility, "chromadb_version", lambda: "99.0.0")
    assert incompatibility(tmp_path, SPEC) == "the differential suite has not passed on ChromaDB 99.0.0"


def test_a_python_whose_sqlite_lacks_full_text_search_uses_the_api(
    tmp_path: Path, base: FoldPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compatibility, "_PROBE", "CREATE VIRTUAL TABLE texts USING fts99(text)")
    assert "full-text index" in str(incompatibility(tmp_path, SPEC))


def test_a_new_directory_has_the_migrations_of_a_proven_version(tmp_path: Path, base: FoldPlan) -> None:
    with closing(sqlite3.connect(tmp_path / "chroma.sqlite3")) as database:
        assert migrations_digest(database) in PROVEN.values()


def test_new_documents_and_metadata_change_no_file_of_the_index(tmp_path: Path, base: FoldPlan) -> None:
    def index_files() -> dict[str, tuple[bytes, int]]:
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in segment(tmp_path).iterdir()}

    before = index_files()
    run = a_run({"row-3": [3, 1]}, documents={"row-3": "other text"}, metadatas={"row-3": {"new": 1}}, delta=2)
    plan = planned(base.ledger, run)
    BulkLoader().apply(tmp_path, SPEC, plan, progress=no_progress)
    verify(tmp_path, SPEC, plan, progress=no_progress)
    assert index_files() == before
    with open_collection(tmp_path, "docs") as collection:
        assert collection.get(where={"new": 1})["ids"] == ["row-3"]
        assert collection.get(where_document={"$contains": "other"})["ids"] == ["row-3"]


@pytest.mark.parametrize("rebuilds", [True, False])
def test_a_fold_too_large_for_one_portion_is_queued_in_several(
    tmp_path: Path, base: FoldPlan, monkeypatch: pytest.MonkeyPatch, *, rebuilds: bool
) -> None:
    opened: list[Path] = []

    @contextmanager
    def counting(directory: Path, name: str) -> Iterator[Collection]:
        opened.append(directory)
        with open_collection(directory, name) as collection:
            yield collection

    monkeypatch.setattr(index_build, "QUEUED_VALUES", 10)
    monkeypatch.setattr(index_build, "QUEUED_SHARE", 0)
    monkeypatch.setattr(index_build, "open_collection", counting)
    run = a_run({f"row-{n}": [n, 2] for n in range(5, 30)}, deletes={"row-1", "row-2"}, delta=2)
    plan = planned(base.ledger, run)
    BulkLoader(rebuilds=lambda _: rebuilds).apply(tmp_path, SPEC, plan, progress=no_progress)
    verify(tmp_path, SPEC, plan, progress=no_progress)
    finalize(tmp_path)
    operations = 3 + 25 if rebuilds else 2 + 15 + 25
    assert len(opened) == -(-operations // 5)
    assert entries(segment(tmp_path)) == (28 if rebuilds else 45)


def test_a_rebuilt_index_has_no_dead_entry(tmp_path: Path, base: FoldPlan) -> None:
    plan = planned(base.ledger, a_run(deletes={f"row-{n}" for n in range(8)}, delta=2))
    BulkLoader().apply(tmp_path, SPEC, plan, progress=no_progress)
    verify(tmp_path, SPEC, plan, progress=no_progress)
    assert entries(segment(tmp_path)) == plan.counts.records == 12


def test_dead_entries_that_the_api_left_are_removed_by_the_next_fold(tmp_path: Path, base: FoldPlan) -> None:
    plan = planned(base.ledger, a_run({f"row-{n}": [n, 9] for n in range(8)}, delta=2))
    ApiLoader().apply(tmp_path, SPEC, plan, progress=no_progress)
    assert entries(segment(tmp_path)) == 28
    plan = planned(plan.ledger, a_run({"row-new": [0, 0]}, delta=3))
    BulkLoader().apply(tmp_path, SPEC, plan, progress=no_progress)
    verify(tmp_path, SPEC, plan, progress=no_progress)
    assert entries(segment(tmp_path)) == 21


@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
def test_vectors_survive_many_rebuilds_bit_for_bit(tmp_path: Path, space: Space) -> None:
    spec, rng = CollectionSpec("docs", 16, space), np.random.default_rng(4)
    create_directory(tmp_path, spec)
    vectors = rng.standard_normal((50, 16)) * rng.uniform(0.01, 50, (50, 1))
    rows = {f"row-{n:02d}": vector.tolist() for n, vector in enumerate(vectors)}

    def stored_vectors() -> dict[str, bytes]:
        with open_collection(tmp_path, "docs") as collection:
            found = collection.get(ids=sorted(rows), include=["embeddings"])
        return {
            row_id: np.asarray(vector, np.float32).tobytes()
            for row_id, vector in zip(found["ids"], cast("list[Any]", found["embeddings"]), strict=True)
        }

    plan = planned(None, a_run(rows, delta=1))
    BulkLoader().apply(tmp_path, spec, plan, progress=no_progress)
    first = stored_vectors()
    for delta in range(2, 12):
        plan = planned(plan.ledger, a_run({f"later-{delta}": vectors[0].tolist()}, delta=delta))
        BulkLoader(rebuilds=lambda _: True).apply(tmp_path, spec, plan, progress=no_progress)
        verify(tmp_path, spec, plan, progress=no_progress)
    assert stored_vectors() == first


def test_a_rebuild_refuses_a_vector_that_differs_from_the_ledger(tmp_path: Path, base: FoldPlan) -> None:
    path = segment(tmp_path) / "data_level0.bin"
    body = np.fromfile(path, dtype="<f4")
    body[np.flatnonzero(body == 7)[0]] = 7.5
    path.write_bytes(body.tobytes())
    plan = planned(base.ledger, a_run({"row-new": [0, 0]}, delta=2))
    with pytest.raises(VerificationError, match="docs: the index holds a different vector for id 'row-7'"):
        BulkLoader(rebuilds=lambda _: True).apply(tmp_path, SPEC, plan, progress=no_progress)


def test_an_index_that_lacks_a_record_is_not_rebuilt(tmp_path: Path, base: FoldPlan) -> None:
    with open_collection(tmp_path, "docs") as collection:
        collection.modify(configuration={"hnsw": {"sync_threshold": 1}})
        collection.delete(ids=["row-7"])
    plan = planned(base.ledger, a_run({"row-new": [0, 0]}, delta=2))
    with pytest.raises(VerificationError, match="docs: the index holds 19 kept vectors, the ledger 20"):
        BulkLoader(rebuilds=lambda _: True).apply(tmp_path, SPEC, plan, progress=no_progress)


def test_keys_beyond_those_that_a_schema_lists_are_found_by_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MAX_KEYS", 4)
    metadatas = {f"r{row}": {f"key {row}": row, f"list {row}": ["x", "y"]} for row in range(9)}
    run = a_run({row_id: [float(len(row_id)), 1.0] for row_id in metadatas}, metadatas=metadatas)
    spec = CollectionSpec("docs", 2, "l2")
    create_directory(tmp_path, spec)
    plan = planned(None, run)

    BulkLoader().apply(tmp_path, spec, plan, progress=no_progress)

    verify(tmp_path, spec, plan, progress=no_progress)
    with open_collection(tmp_path, "docs") as opened:
        collection: Any = opened
        for row in range(9):
            assert collection.get(where={f"key {row}": {"$gte": row}})["ids"] == [f"r{row}"]
            assert collection.get(where={f"list {row}": {"$contains": "y"}})["ids"] == [f"r{row}"]


def test_removing_a_record_that_does_not_exist_fails(tmp_path: Path, base: FoldPlan) -> None:
    sql(tmp_path, "DELETE FROM embeddings WHERE embedding_id = 'row-7'")
    plan = planned(base.ledger, a_run({"row-7": [0, 0], "row-8": [0, 0]}, delta=2))
    with pytest.raises(VerificationError, match="of 2 records to remove, only 1 exist"):
        BulkLoader(rebuilds=lambda _: False).apply(tmp_path, SPEC, plan, progress=no_progress)


def test_other_threads_run_while_the_index_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat of the lease runs in such a thread."""
    vectors = np.random.default_rng(0).standard_normal((3000, 64)).tolist()
    plan = planned(None, a_run({f"row-{number}": vector for number, vector in enumerate(vectors)}, delta=1))
    spec = SPEC._replace(dimension=64)
    create_directory(tmp_path, spec)
    building = threading.Event()
    ticks: list[bool] = []

    @contextmanager
    def watched(directory: Path, name: str) -> Iterator[Collection]:
        with open_collection(directory, name) as collection:
            building.set()
            yield collection
            building.clear()

    def tick() -> None:
        while not done.wait(0.005):
            ticks.append(building.is_set())

    monkeypatch.setattr(index_build, "open_collection", watched)
    done = threading.Event()
    ticker = threading.Thread(target=tick)
    ticker.start()
    BulkLoader().apply(tmp_path, spec, plan, progress=no_progress)
    done.set()
    ticker.join()
    assert sum(ticks) > 3


PEAK_OF_RECLAIMING = """
import sys
from pathlib import Path
from benchmarks.memory import peak_mebibytes
from chromadb_compaction.chroma.page_size import reclaim
before = peak_mebibytes()
reclaim(Path(sys.argv[1]), rebuilt=False)
print(peak_mebibytes() - before)
"""


def test_reclaiming_space_uses_temporary_files_on_the_disk(tmp_path: Path) -> None:
    """Temporary files in memory would take as much memory as the whole database."""
    create_directory(tmp_path, SPEC)
    file = tmp_path / "chroma.sqlite3"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE texts (text)")
        database.executemany("INSERT INTO texts VALUES (?)", ((b"x" * 3000,) for _ in range(30_000)))
        database.execute("DELETE FROM texts WHERE rowid % 4 = 0")
        database.commit()
    size = file.stat().st_size
    ended = subprocess.run(
        [sys.executable, "-c", PEAK_OF_RECLAIMING, str(tmp_path)], stdout=subprocess.PIPE, check=True
    )
    assert file.stat().st_size < 0.8 * size
    assert float(ended.stdout) * MEBIBYTE < size / 3


def test_an_index_that_chromadb_did_not_flush_is_refused(
    tmp_path: Path, base: FoldPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def never_opened(directory: Path, name: str) -> Iterator[object]:
        class Idle:
            def get(self, **_: object) -> None:
                pass

        yield Idle()

    monkeypatch.setattr(index_build, "open_collection", never_opened)
    plan = planned(base.ledger, a_run({"row-new": [0, 0]}, delta=2))
    with pytest.raises(VerificationError, match="flushed its index up to operation 20, expected 21"):
        BulkLoader().apply(tmp_path, SPEC, plan, progress=no_progress)


def test_an_index_whose_metadata_could_run_code_is_refused(tmp_path: Path, base: FoldPlan) -> None:
    (segment(tmp_path) / "index_metadata.pickle").write_bytes(pickle.dumps({"id_to_label": os.getcwd}))
    plan = planned(base.ledger, a_run({"row-new": [0, 0]}, delta=2))
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.getcwd, which is not a plain value"):
        BulkLoader(rebuilds=lambda _: True).apply(tmp_path, SPEC, plan, progress=no_progress)


def test_the_choice_to_rebuild_or_not_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    create_directory(tmp_path, SPEC)
    BulkLoader().apply(tmp_path, SPEC, planned(None, FIRST), progress=no_progress)
    assert "docs: index changed in place: 0 live of 0 entries, 0 deleted, 0 replaced, 20 added" in caplog.text


def test_many_folds_leave_at_most_15_percent_more_bytes_than_a_new_directory(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    spec, folded, ledger = CollectionSpec("docs", 64, "l2"), tmp_path / "folded", None
    create_directory(folded, spec)
    live: dict[str, list[float]] = {}
    texts: dict[str, str] = {}
    for delta in range(1, 13):
        ids = {f"row-{n:05d}" for n in rng.integers(0, 3000, 600)}
        deletes = set(sorted(ids)[: 150 if delta % 3 else 500]) if delta > 2 else set()
        upserts = {row_id: rng.standard_normal(64).tolist() for row_id in ids - deletes}
        documents = {row_id: " ".join(rng.choice(["some", "words", "in", "a", "text"], 40)) for row_id in upserts}
        plan = planned(ledger, a_run(upserts, deletes, documents=documents, delta=delta))
        choose_loader(folded, spec).apply(folded, spec, plan, progress=no_progress)
        verify(folded, spec, plan, progress=no_progress)
        finalize(folded)
        live = {row_id: vector for row_id, vector in (live | upserts).items() if row_id not in deletes}
        texts |= documents
        ledger = plan.ledger
        fresh = tmp_path / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        create_directory(fresh, spec)
        whole = planned(None, a_run(live, documents={row_id: texts[row_id] for row_id in live}))
        ApiLoader().apply(fresh, spec, whole, progress=no_progress)
        finalize(fresh)
        assert size(folded) <= 1.15 * size(fresh), f"after fold {delta}"


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
