"""Rows that are exported are those that were merged: each test damages one thing, and the export names it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from chromadb_compaction.chroma import compatibility
from chromadb_compaction.chroma.bulk_loader import BulkLoader
from chromadb_compaction.chroma.client import SQLITE_FILE, CollectionSpec, create_directory, finalize
from chromadb_compaction.chroma.export import rows as export
from chromadb_compaction.chroma.export.records import vector_segment
from chromadb_compaction.chroma.export.rows import export_rows
from chromadb_compaction.chroma.index_files import StoredVectors
from chromadb_compaction.chroma.loader import ApiLoader, Loader, stored_vectors_of, vectors_of
from chromadb_compaction.configuration import Space
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.fold.fold import no_progress
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange
from chromadb_compaction.rows.runs import run_schema
from tests.runs import a_run, planned

RUN = a_run(
    {"a": [0.1, 0.7], "b": [3, 4], "ü": [1e-3, 5], "z": [1, 0]},
    documents={"a": "text", "b": ""},
    metadatas={
        # ChromaDB's API stores this float inexactly.
        "a": {"i": 1, "f": 7.038531e-26, "t": True, "s": "", "list": [2.0, 1.0]},
        "z": {"flags": [False, True]},
    },
    uris={"z": "s3://z"},
)
SPACES: tuple[Space, ...] = get_args(Space)


def written(directory: Path, space: Space = "l2", loader: Loader | None = None) -> tuple[CollectionSpec, pa.Table]:
    """Write RUN to a closed directory, and return the collection and its ledger."""
    spec, plan = CollectionSpec("docs", 2, space), planned(None, RUN)
    create_directory(directory, spec)
    (loader or BulkLoader()).apply(directory, spec, plan, progress=no_progress)
    finalize(directory)
    return spec, plan.ledger


def exported(directory: Path, spec: CollectionSpec, ledger: pa.Table) -> pa.Table:
    return pa.concat_tables(export_rows(directory, spec, ALL_IDS, ledger))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("loader", [BulkLoader(), ApiLoader()], ids=["bulk", "api"])
@pytest.mark.parametrize("version", ["proven", "unproven"])
def test_rows_leave_a_directory_as_they_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: Space, loader: Loader, version: str
) -> None:
    spec, ledger = written(tmp_path / "docs", space, loader)
    if version == "unproven":
        monkeypatch.setattr(compatibility, "PROVEN", {})

    found = exported(tmp_path / "docs", spec, ledger)

    texts = [name for name in run_schema(2).names if name != "embedding"]
    assert found.select(texts).to_pylist() == RUN.select(texts).to_pylist()
    if space == "cosine":
        assert np.allclose(vectors_of(found), vectors_of(RUN), rtol=1e-6)
    else:
        assert found["embedding"].to_pylist() == RUN["embedding"].to_pylist()


def test_cosine_vectors_are_those_of_the_index_bit_for_bit(tmp_path: Path) -> None:
    spec, ledger = written(tmp_path / "docs", "cosine")

    vectors, lengths = stored_vectors_of(exported(tmp_path / "docs", spec, ledger))

    stored = StoredVectors(vector_segment(tmp_path / "docs"), 2, "cosine")
    expected, scale = stored.read_stored(["a", "b", "z", "ü"])
    assert lengths is not None
    assert scale is not None
    assert (vectors.tobytes(), lengths.tobytes()) == (expected.tobytes(), scale.tobytes())


def test_only_the_rows_of_a_range_are_exported_in_batches_of_few_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BATCH_BYTES", 1)
    spec, ledger = written(tmp_path / "docs")
    ids = IdRange("a\0", "ü")

    parts = list(export_rows(tmp_path / "docs", spec, ids, ledger.filter(pa.array(ids.mask(ledger["id"])))))

    assert [part["id"].to_pylist() for part in parts] == [["b"], ["z"]]
    assert sum(part.num_rows for part in export_rows(tmp_path / "docs", spec, ALL_IDS, ledger)) == RUN.num_rows


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DELETE FROM embeddings WHERE embedding_id = 'b'", "id 'b' is missing"),
        ("DELETE FROM embeddings WHERE embedding_id = 'z'", "id 'z' is missing"),
        ("UPDATE embeddings SET embedding_id = 'x' WHERE embedding_id = 'a'", "id 'x' is missing in the index"),
        (
            "UPDATE embedding_metadata SET string_value = 'texT' WHERE string_value = 'text'",
            "id 'a' has a different doc",
        ),
        ("DELETE FROM embedding_metadata WHERE key = 'chroma:uri'", "id 'z' has a different document, metadata or URI"),
        ("DELETE FROM embedding_metadata_array WHERE key = 'flags'", "id 'z' has a different document"),
        (
            "UPDATE embedding_metadata SET int_value = NULL, float_value = 1 WHERE key = 'i'",
            "id 'a' has a different doc",
        ),
    ],
)
def test_a_record_that_is_not_the_ledgers_is_named(tmp_path: Path, damage: str, problem: str) -> None:
    spec, ledger = written(tmp_path / "docs")
    with closing(sqlite3.connect(tmp_path / "docs" / SQLITE_FILE, isolation_level=None)) as database:
        assert database.execute(damage).rowcount

    with pytest.raises(VerificationError, match=problem):
        exported(tmp_path / "docs", spec, ledger)


def test_a_record_that_the_ledger_does_not_have_is_named(tmp_path: Path) -> None:
    spec, ledger = written(tmp_path / "docs")

    with pytest.raises(VerificationError, match="id 'ü' is in the collection but not in the ledger"):
        exported(tmp_path / "docs", spec, ledger.filter(pc.not_equal(ledger["id"], pa.scalar("ü"))))


def test_a_vector_that_is_not_the_ledgers_is_named(tmp_path: Path) -> None:
    spec, ledger = written(tmp_path / "docs")
    index = StoredVectors(vector_segment(tmp_path / "docs"), 2, "l2", writable=True)
    index.overwrite(["b"], np.asarray([[3, 4.5]], np.float32), None)

    with pytest.raises(VerificationError, match="id 'b' has a different vector"):
        exported(tmp_path / "docs", spec, ledger)


def test_a_cosine_vector_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    spec, ledger = written(tmp_path / "docs", "cosine")
    index = StoredVectors(vector_segment(tmp_path / "docs"), 2, "cosine", writable=True)
    index.overwrite(["b"], np.asarray([[np.nan, 0]], np.float32), np.ones(1, np.float32))

    with pytest.raises(VerificationError, match="not valid"):
        exported(tmp_path / "docs", spec, ledger)
