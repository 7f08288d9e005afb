"""Verification reads every row from the files: each test damages one that ChromaDB is not asked for."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromadb_compaction.chroma import verification
from chromadb_compaction.chroma.bulk_loader import BulkLoader
from chromadb_compaction.chroma.client import SQLITE_FILE, CollectionSpec, create_directory
from chromadb_compaction.chroma.index_files import StoredVectors
from chromadb_compaction.chroma.verification import SAMPLED_ROWS, verify
from chromadb_compaction.configuration import Space
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.fold.fold import no_progress
from chromadb_compaction.rows.ledger import FoldPlan
from tests.runs import a_run, planned

ROWS = 10 * SAMPLED_ROWS
DAMAGED = "row-0004"
"""A row between two of the sample."""


def loaded(directory: Path, space: Space) -> tuple[CollectionSpec, FoldPlan, Path]:
    """Load ROWS rows. Return also the directory of the index's files."""
    spec = CollectionSpec("docs", 4, space)
    vectors = np.random.default_rng(0).standard_normal((ROWS, 4)).tolist()
    rows = {f"row-{number:04d}": vector for number, vector in enumerate(vectors)}
    texts = {row_id: f"the document of {row_id}" for row_id in rows}
    values = {row_id: {"page": 7, "score": 0.1, "draft": True, "tags": ["a", "b"]} for row_id in rows}
    plan = planned(None, a_run(rows, documents=texts, metadatas=values, uris=texts))
    create_directory(directory, spec)
    index = BulkLoader().apply(directory, spec, plan, progress=no_progress).index_files
    assert index is not None
    return spec, plan, index


def another_vector(index: Path, space: Space) -> None:
    vectors = StoredVectors(index, 4, space, writable=True)
    stored, lengths = vectors.read_stored([DAMAGED])
    vectors.overwrite([DAMAGED], np.nextafter(stored, 2) if space != "cosine" else -stored, lengths)


def another_length(index: Path, space: Space) -> None:
    vectors = StoredVectors(index, 4, space, writable=True)
    stored, lengths = vectors.read_stored([DAMAGED])
    if lengths is None:
        pytest.skip("only cosine vectors have lengths")
    vectors.overwrite([DAMAGED], stored, lengths * np.float32(1.001))


def labels_exchanged(index: Path, _space: Space) -> None:
    def exchange(metadata: dict[str, Any]) -> None:
        labels = metadata["id_to_label"]
        labels[DAMAGED], labels["row-0005"] = labels["row-0005"], labels[DAMAGED]

    _change_metadata(index, exchange)


def id_left_out(index: Path, _space: Space) -> None:
    _change_metadata(index, lambda metadata: metadata["id_to_label"].pop(DAMAGED))


def _sql(statement: str) -> Callable[[Path, Space], None]:
    """Return a damage to the row in the database. `:id` is its number."""

    def damage(index: Path, _space: Space) -> None:
        with closing(sqlite3.connect(index.parent / SQLITE_FILE)) as database, database:
            [number] = database.execute("SELECT id FROM embeddings WHERE embedding_id = ?", (DAMAGED,)).fetchone()
            assert database.execute(statement, {"id": number}).rowcount == 1

    return damage


def _change_metadata(index: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = index / "index_metadata.pickle"
    metadata = pickle.loads(file.read_bytes())
    change(metadata)
    file.write_bytes(pickle.dumps(metadata))


OF_ROW = "WHERE id = :id AND key ="


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (f"UPDATE embedding_metadata SET string_value = 'x' {OF_ROW} 'chroma:document'", "a different document"),
        (f"DELETE FROM embedding_metadata {OF_ROW} 'chroma:document'", "a different document"),
        (f"UPDATE embedding_metadata SET string_value = 'x' {OF_ROW} 'chroma:uri'", "a different URI"),
        (f"UPDATE embedding_metadata SET int_value = 8 {OF_ROW} 'page'", "a different metadata"),
        (f"UPDATE embedding_metadata SET bool_value = 0 {OF_ROW} 'draft'", "a different metadata"),
        (f"UPDATE embedding_metadata SET float_value = 0.2 {OF_ROW} 'score'", "a different metadata"),
        (f"UPDATE embedding_metadata_array SET string_value = 'x' {OF_ROW} 'tags' AND string_value = 'b'", "metadata"),
        ("INSERT INTO embedding_metadata (id, key, int_value) VALUES (:id, 'extra', 1)", "a different metadata"),
        ("UPDATE embedding_fulltext_search_content SET c0 = 'x' WHERE id = :id", "another document in the full-text"),
        ("DELETE FROM embedding_fulltext_search_content WHERE id = :id", "another document in the full-text table"),
        ("DELETE FROM embeddings WHERE id = :id", "is missing"),
    ],
)
def test_a_text_outside_the_sample_is_verified(tmp_path: Path, statement: str, message: str) -> None:
    spec, plan, index = loaded(tmp_path, "l2")
    verify(tmp_path, spec, plan, index=index, progress=no_progress)
    _sql(statement)(index, "l2")
    with pytest.raises(VerificationError, match=f"id '{DAMAGED}' .*{message}"):
        verify(tmp_path, spec, plan, index=index, progress=no_progress)


def test_a_row_that_chromadb_reads_otherwise_is_found_by_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, plan, index = loaded(tmp_path, "l2")
    monkeypatch.setattr(verification, "_check_stored_texts", lambda *_: None)
    _sql("UPDATE embedding_metadata SET int_value = 8 WHERE key = 'page' AND id = 1 AND :id")(index, "l2")
    with pytest.raises(VerificationError, match="id 'row-0000' reads back with a different metadata"):
        verify(tmp_path, spec, plan, index=index, progress=no_progress)


@pytest.mark.parametrize("space", ["l2", "cosine", "ip"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (another_vector, f"id '{DAMAGED}' reads back with a different embedding"),
        (another_length, f"id '{DAMAGED}' reads back with a different embedding"),
        (labels_exchanged, f"id '{DAMAGED}' reads back with a different embedding"),
        (id_left_out, f"id '{DAMAGED}' is missing in the index"),
    ],
)
def test_a_vector_outside_the_sample_is_verified(
    tmp_path: Path, space: Space, damage: Callable[[Path, Space], None], message: str
) -> None:
    spec, plan, index = loaded(tmp_path, space)
    verify(tmp_path, spec, plan, index=index, progress=no_progress)
    damage(index, space)
    with pytest.raises(VerificationError, match=message):
        verify(tmp_path, spec, plan, index=index, progress=no_progress)
