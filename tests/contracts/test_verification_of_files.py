"""Verification reads every vector from the index's files: each test damages one that ChromaDB is not asked for."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromadb_compaction.chroma.bulk_loader import BulkLoader
from chromadb_compaction.chroma.client import CollectionSpec, create_directory
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
    plan = planned(None, a_run({f"row-{number:04d}": vector for number, vector in enumerate(vectors)}))
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


def _change_metadata(index: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = index / "index_metadata.pickle"
    metadata = pickle.loads(file.read_bytes())
    change(metadata)
    file.write_bytes(pickle.dumps(metadata))


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
