"""Parts of a ChromaDB collection that a delta cannot keep are named, and nothing is put."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromadb_compaction.chroma.client import open_directory
from chromadb_compaction.cli.sources.chroma_collections import ChromaCollection
from chromadb_compaction.cli.sources.chroma_instances import chroma_directory
from chromadb_compaction.cli.sources.unkept import _function_settings
from chromadb_compaction.errors import InvalidRequestError


def open_docs(path: Path, scratch: Path, **settings: Any) -> ChromaCollection:
    with open_directory(path) as client:
        made = client.create_collection("docs", **{"embedding_function": None, **settings})
        made.add(ids=["a", "b"], embeddings=np.eye(2, dtype=np.float32))
    with chroma_directory(path, scratch) as instance:
        return ChromaCollection(instance, "docs", "docs")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"metadata": {"owner": "a", "hnsw:space": "ip"}}, r"has collection metadata \(owner\), which"),
        ({"metadata": {"hnsw:M": 40}}, "the index setting max_neighbors=40, which"),
        ({"configuration": {"hnsw": {"ef_search": 7}}}, "the index setting ef_search=7, which"),
    ],
)
def test_each_is_named(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequestError, match=named):
        open_docs(tmp_path / "chroma", tmp_path, **settings)


def test_a_setting_that_only_the_segment_of_an_old_index_has_is_named(tmp_path: Path) -> None:
    open_docs(tmp_path / "chroma", tmp_path)
    with closing(sqlite3.connect(tmp_path / "chroma" / "chroma.sqlite3")) as tables, tables:
        (segment,) = tables.execute("SELECT id FROM segments WHERE scope = 'VECTOR'").fetchone()
        tables.execute("INSERT INTO segment_metadata (segment_id, key, int_value) VALUES (?, 'hnsw:M', 40)", (segment,))

    with (
        chroma_directory(tmp_path / "chroma", tmp_path) as instance,
        pytest.raises(InvalidRequestError, match="max_neighbors=40"),
    ):
        ChromaCollection(instance, "docs", "docs")


def test_what_has_no_effect_on_answers_is_not_missed(tmp_path: Path) -> None:
    index = {"hnsw": {"space": "cosine", "sync_threshold": 7000, "resize_factor": 2.0}}

    assert open_docs(tmp_path / "chroma", tmp_path, configuration=index).space == "cosine"


def test_the_settings_of_an_embedding_function_are_named_without_secrets() -> None:
    settings = {"model_name": "small", "api_key": "abc", "api_key_env_var": "OPENAI_API_KEY"}

    (named,) = _function_settings({"name": "openai", "config": settings})

    assert named.startswith('settings of its embedding function openai ({"model_name": "small", "api_key": "..."')
    assert "OPENAI_API_KEY" in named
    assert list(_function_settings({"name": "default", "config": {}})) == []
