"""The distance of a collection, measured by its own answers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromadb_compaction.chroma.client import open_directory
from chromadb_compaction.cli.sources.measured_space import measured_space

VECTORS = {
    "one": [[3.0, 4.0]],
    "of length 1": [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]],
    "of length sqrt 2": [[1.0, 1.0], [1.0, -1.0]],
    "small": [[1e-4, 2e-4], [3e-4, -1e-4]],
    "large": [[3e4, 2e4], [1e4, 9e4]],
    "one dimension": [[2.0], [-3.0], [1.0]],
    "zero first": [[0.0, 0.0], [2.0, 1.0]],
    "equal": [[0.5, 0.5]] * 3,
}


def make(path: Path, vectors: list[list[float]], **settings: Any) -> None:
    with open_directory(path) as client:
        made = client.create_collection("docs", embedding_function=None, **settings)
        made.add(ids=[str(n) for n in range(len(vectors))], embeddings=np.array(vectors, dtype=np.float32))


def measure(path: Path, configured: str | None = None) -> str | None:
    with open_directory(path) as client:
        return measured_space(client.get_collection("docs", embedding_function=None), configured=configured)


@pytest.mark.parametrize("vectors", VECTORS)
@pytest.mark.parametrize("space", ["l2", "cosine", "ip"])
def test_the_distance_is_found_whatever_the_vectors(tmp_path: Path, space: str, vectors: str) -> None:
    make(tmp_path, VECTORS[vectors], configuration={"hnsw": {"space": space}})

    assert measure(tmp_path) == space


@pytest.mark.parametrize("space", ["cosine", "ip"])
def test_the_distance_of_a_directory_that_keeps_it_in_the_metadata_of_the_segment_is_found(
    tmp_path: Path, space: str
) -> None:
    """ChromaDB 0.4 to 0.6 kept it there, and later versions follow it."""
    make(tmp_path, VECTORS["of length 1"], metadata={"hnsw:space": space})
    with closing(sqlite3.connect(tmp_path / "chroma.sqlite3")) as tables, tables:
        (segment,) = tables.execute("SELECT id FROM segments WHERE scope = 'VECTOR'").fetchone()
        tables.execute("UPDATE collections SET config_json_str = '{}', schema_str = NULL")
        tables.execute("DELETE FROM collection_metadata")
        tables.execute("DELETE FROM segment_metadata")
        tables.execute(
            "INSERT INTO segment_metadata (segment_id, key, str_value) VALUES (?, 'hnsw:space', ?)", (segment, space)
        )

    assert measure(tmp_path, "l2") == space


def test_vectors_of_zeros_have_the_configured_distance_if_the_answers_allow_it(tmp_path: Path) -> None:
    make(tmp_path, [[0.0, 0.0]], configuration={"hnsw": {"space": "ip"}})

    assert measure(tmp_path, "ip") == "ip"
    assert measure(tmp_path, None) is None
