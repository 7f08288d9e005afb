"""Verification fails if ChromaDB does not hold what the ledger says: each test damages one thing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from chromadb_compaction.chroma.client import (
    Collection,
    CollectionSpec,
    create_directory,
    finalize,
    open_collection,
)
from chromadb_compaction.chroma.loader import ApiLoader
from chromadb_compaction.chroma.verification import differing, same_metadata, verify
from chromadb_compaction.errors import NoSuchCollectionError, VerificationError
from chromadb_compaction.fold.fold import no_progress
from chromadb_compaction.rows.ledger import FoldPlan
from tests.runs import a_run, planned

SPEC = CollectionSpec("docs", 2, "l2")
DOCUMENTS = {"a": "text", "b": "text"}
METADATAS = {"a": {"k": 1}, "b": {"k": 1}}


@pytest.fixture
def plan(tmp_path: Path) -> FoldPlan:
    """A fold that is loaded into `tmp_path`. It deleted `gone`, replaced `a` and inserted `b`."""
    base = planned(None, a_run({"a": [1, 0], "gone": [2, 0]}, delta=1))
    create_directory(tmp_path, SPEC)
    ApiLoader().apply(tmp_path, SPEC, base, progress=no_progress)
    run = a_run({"a": [5, 0], "b": [6, 0]}, {"gone"}, documents=DOCUMENTS, metadatas=METADATAS, delta=2)
    plan = planned(base.ledger, run)
    ApiLoader().apply(tmp_path, SPEC, plan, progress=no_progress)
    verify(tmp_path, SPEC, plan, progress=no_progress)
    return plan


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.delete(ids=["b"]), "counts 1 records, the ledger 2"),
        (lambda c: (c.delete(ids=["b"]), c.add(ids=["x"], embeddings=[[1, 1]])), "id 'b' is missing"),
        (lambda c: (c.delete(ids=["b"]), c.add(ids=["gone"], embeddings=[[1, 1]])), "id 'b' is missing"),
        (lambda c: c.update(ids=["a"], embeddings=[[5, 1e-7]]), "id 'a' reads back with a different embedding"),
        (lambda c: c.update(ids=["b"], documents=["texT"], embeddings=[[6, 0]]), "id 'b' .* different document"),
        (lambda c: c.update(ids=["b"], metadatas=[{"k": 1.0}]), "id 'b' .* different metadata"),
        (lambda c: c.update(ids=["a"], metadatas=[{"extra": 1}]), "id 'a' .* different metadata"),
    ],
)
def test_a_difference_is_found_and_named(
    tmp_path: Path, plan: FoldPlan, damage: Callable[[Collection], object], message: str
) -> None:
    with open_collection(tmp_path, "docs") as collection:
        damage(collection)
    with pytest.raises(VerificationError, match=message):
        verify(tmp_path, SPEC, plan, progress=no_progress)


def test_a_deleted_id_that_still_exists_is_found(tmp_path: Path, plan: FoldPlan) -> None:
    with_more_deletes = plan._replace(deletes=["never-deleted", "b"])
    with pytest.raises(VerificationError, match="id 'b' was deleted but still exists"):
        verify(tmp_path, SPEC, with_more_deletes, progress=no_progress)


def test_an_unflushed_index_is_refused(tmp_path: Path) -> None:
    create_directory(tmp_path, SPEC)
    with open_collection(tmp_path, "docs") as collection:
        collection.add(ids=["a", "b"], embeddings=np.eye(2, dtype=np.float32))
    with pytest.raises(VerificationError, match="2 operations are still queued"):
        finalize(tmp_path)


def test_a_directory_whose_sqlite_is_in_use_is_refused(tmp_path: Path, plan: FoldPlan) -> None:
    assert plan.counts.records == 2
    (tmp_path / "chroma.sqlite3-shm").touch()
    with pytest.raises(VerificationError, match=r"still in use, chroma\.sqlite3-shm"):
        finalize(tmp_path)


def test_finalize_frees_the_pages_that_the_queue_used(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 300)).tolist()
    plan = planned(None, a_run({f"row-{number}": vector for number, vector in enumerate(vectors)}))
    create_directory(tmp_path, SPEC)
    ApiLoader().apply(tmp_path, SPEC._replace(dimension=300), plan, progress=no_progress)
    before = (tmp_path / "chroma.sqlite3").stat().st_size
    finalize(tmp_path)
    assert (tmp_path / "chroma.sqlite3").stat().st_size < before / 2
    with closing(sqlite3.connect(tmp_path / "chroma.sqlite3")) as database:
        assert database.execute("PRAGMA freelist_count").fetchone() == (0,)
    verify(tmp_path, SPEC._replace(dimension=300), plan, progress=no_progress)


def test_the_error_names_the_missing_collection(tmp_path: Path) -> None:
    with pytest.raises(NoSuchCollectionError, match="'docs'"), open_collection(tmp_path, "docs"):
        pass


def test_l2_vectors_must_be_equal_bit_for_bit_and_cosine_ones_within_the_tolerance() -> None:
    written = np.array([[1, 2], [3, 4], [0, 0]], dtype=np.float32)
    found = written + np.array([[0, 2e-7], [0, 1e-3], [0, 0]], dtype=np.float32)
    assert differing(found, written, "l2").tolist() == [True, True, False]
    assert differing(found, written, "cosine").tolist() == [False, True, False]


def test_a_vector_of_nan_differs_in_every_space() -> None:
    written = np.ones((1, 2), dtype=np.float32)
    broken = np.full((1, 2), np.nan, dtype=np.float32)
    assert differing(broken, written, "cosine").tolist() == [True]
    assert differing(broken, written, "ip").tolist() == [True]


@pytest.mark.parametrize(
    ("found", "written", "same"),
    [
        (None, None, True),
        ({"a": 1, "b": "x"}, '{"a":1,"b":"x"}', True),
        ({"a": 90.33333333333331}, '{"a":90.33333333333333}', True),
        ({"a": [90.33333333333331]}, '{"a":[90.33333333333333]}', True),
        ({"a": 90.3333333333}, '{"a":90.33333333333333}', False),
        ({"a": 1.0}, '{"a":1}', False),
        ({"a": True}, '{"a":1}', False),
        ({"a": [1, 2]}, '{"a":[2,1]}', False),
        ({"a": [1, 2]}, '{"a":[1]}', False),
        ({"a": 1, "b": 1}, '{"a":1}', False),
        (None, '{"a":1}', False),
        ({"a": 1}, None, False),
    ],
)
def test_metadata_is_the_same_in_keys_types_and_values(
    found: dict[str, object] | None, written: str | None, *, same: bool
) -> None:
    assert same_metadata(found, written) is same
