"""Load the same history with both loaders, and compare every answer of ChromaDB on the two directories."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chromadb_compaction.chroma.bulk_loader import BulkLoader
from chromadb_compaction.chroma.client import CollectionSpec, create_directory, finalize
from chromadb_compaction.chroma.loader import ApiLoader, Loader
from chromadb_compaction.chroma.page_size import LEAST_PAGES, PAGE_SIZES
from chromadb_compaction.chroma.verification import verify
from chromadb_compaction.configuration import Space
from chromadb_compaction.fold.fold import no_progress
from chromadb_compaction.fold.kept_settings import write_settings
from tests.differential.answers import (
    NAME,
    assert_equal_answers,
    assert_equal_records,
    assert_nearest,
    plain_collection,
)
from tests.differential.histories import HISTORIES, History
from tests.runs import planned

BULK_LOADERS = {
    "default": BulkLoader(),
    "always rebuild": BulkLoader(rebuilds=lambda _: True),
    "always in place": BulkLoader(rebuilds=lambda change: change.strands),
}
quiet = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
histories = given(
    history=HISTORIES,
    loader=st.sampled_from(sorted(BULK_LOADERS)),
    page_size=st.sampled_from((LEAST_PAGES, *PAGE_SIZES)),
)


@pytest.fixture(scope="module")
def templates() -> Iterator[dict[Space, Path]]:
    """An empty directory of each space to copy: creating one takes longer than loading a short history."""
    with TemporaryDirectory() as parent:
        directories: dict[Space, Path] = {space: Path(parent, space) for space in ("l2", "cosine", "ip")}
        for space, directory in directories.items():
            create_directory(directory, CollectionSpec(NAME, 2, space))
        yield directories


@settings(quiet, max_examples=60)
@histories
def test_any_history_leaves_the_same_collection(
    templates: dict[Space, Path], history: History, loader: str, page_size: int
) -> None:
    check(templates[history.space], history, BULK_LOADERS[loader], page_size)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(quiet, max_examples=5000)
@histories
def test_any_of_very_many_histories_leaves_the_same_collection(
    templates: dict[Space, Path], history: History, loader: str, page_size: int
) -> None:
    check(templates[history.space], history, BULK_LOADERS[loader], page_size)


def check(template: Path, history: History, loader: BulkLoader, page_size: int) -> None:
    """Load and compare. Then write to both directories with plain ChromaDB, open them again, and compare again."""
    with TemporaryDirectory() as parent:
        api, bulk = (shutil.copytree(template, Path(parent, name)) for name in ("api", "bulk"))
        with closing(sqlite3.connect(bulk / "chroma.sqlite3", isolation_level=None)) as database:
            database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA page_size = {page_size}; VACUUM;")
        for directory, by in ((api, ApiLoader()), (bulk, loader)):
            write_settings(directory, history.settings)
            load(directory, history, by)
        assert_equal_tables(api, bulk)
        with plain_collection(api) as expected, plain_collection(bulk) as found:
            assert_equal_answers(expected, found, history)
            index: Any = found.configuration_json["hnsw"]
            wanted = history.settings.configuration(history.space).hnsw
            assert wanted is not None
            assert (index["max_neighbors"], index["ef_construction"]) == (wanted.max_neighbors, wanted.ef_construction)
            assert_nearest_neighbours(found, history)
            for collection in (expected, found):
                write_with_chromadb(collection, history)
        with plain_collection(api) as expected, plain_collection(bulk) as found:
            assert_equal_records(expected, found, history.space)
            records = found.get(include=["embeddings"])
            stored = dict(zip(records["ids"], records["embeddings"], strict=True))
            assert_nearest(found, stored, history.vector(11).tolist(), history.space)


def load(directory: Path, history: History, loader: Loader) -> None:
    """Fold the whole history. Verify and finalize the bulk loader's work as fold/fold.py does."""
    spec, ledger = CollectionSpec(NAME, history.dimension, history.space), None
    for at in range(len(history.folds)):
        plan = planned(ledger, history.run(at))
        if plan.touches_records:
            loader.apply(directory, spec, plan, progress=no_progress)
        if plan.touches_records and loader.name == "bulk":
            verify(directory, spec, plan, progress=no_progress)
            finalize(directory)
        ledger = plan.ledger


def assert_nearest_neighbours(collection: Any, history: History) -> None:
    """Query the neighbours of vectors that are stored, and of one that is not."""
    vectors = {row_id: history.vector(each.vector) for row_id, each in history.live().items()}
    for number in (1, 5, 10):
        assert_nearest(collection, vectors, history.vector(number).tolist(), history.space)


def write_with_chromadb(collection: Any, history: History) -> None:
    """Replace, add and delete a record, as any ChromaDB client may do afterwards."""
    live = sorted(history.live())
    collection.upsert(
        ids=["new", *live[:1]],
        embeddings=[(history.vector(11) * 4).tolist(), history.vector(12).tolist()][: 1 + len(live[:1])],
        documents=["a new fox", "a fox rewritten"][: 1 + len(live[:1])],
        metadatas=[{"s": "new", "other": 1.5}, {"n": 1}][: 1 + len(live[:1])],
    )
    if live[1:]:
        collection.delete(ids=live[1:2])


TABLES = {
    "records": "SELECT id, embedding_id, typeof(seq_id) FROM embeddings ORDER BY id",
    "metadata": "SELECT id, key, string_value, int_value, round(float_value, 3), bool_value, typeof(int_value),"
    " typeof(float_value), typeof(bool_value), typeof(string_value) FROM embedding_metadata WHERE key != 'wild'"
    " ORDER BY id, key",
    "lists": "SELECT id, key, string_value, int_value, float_value, bool_value, typeof(int_value), typeof(float_value),"
    " typeof(bool_value), typeof(string_value) FROM embedding_metadata_array ORDER BY id, key, rowid",
    "texts": "SELECT rowid, string_value FROM embedding_fulltext_search ORDER BY rowid",
    "collection": "SELECT name, dimension, config_json_str FROM collections",
    "collection metadata": "SELECT key FROM collection_metadata",
    "settings": "SELECT * FROM embeddings_queue_config",
    "segments": "SELECT type, scope FROM segments ORDER BY scope",
    "queued": "SELECT count(*) FROM embeddings_queue",
}

STATEMENTS = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"


def assert_equal_tables(api: Path, bulk: Path) -> None:
    """Compare SQLite's tables row by row."""
    with (
        closing(sqlite3.connect(api / "chroma.sqlite3")) as expected,
        closing(sqlite3.connect(bulk / "chroma.sqlite3")) as found,
    ):
        assert found.execute(STATEMENTS).fetchall() == expected.execute(STATEMENTS).fetchall()
        for table, query in TABLES.items():
            assert found.execute(query).fetchall() == expected.execute(query).fetchall(), table
        schemas = [
            orjson.loads(each.execute("SELECT schema_str FROM collections").fetchone()[0]) for each in (expected, found)
        ]
        assert schemas[1] == schemas[0]
        last = found.execute("SELECT max(seq_id) FROM embeddings_queue").fetchone()[0]
        assert {seen for (seen,) in found.execute("SELECT seq_id FROM max_seq_id")} <= {last}
        found.execute("INSERT INTO embedding_fulltext_search (embedding_fulltext_search) VALUES ('integrity-check')")
