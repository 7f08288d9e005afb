"""The same history through both loaders: nobody who asks ChromaDB can tell which of them wrote the directory."""

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
from chromadb_compaction.chroma.verification import verify
from chromadb_compaction.fold.fold import no_progress
from chromadb_compaction.manifest import Space
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
    "as costs say": BulkLoader(),
    "always anew": BulkLoader(rebuilds=lambda _: True),
    "always in place": BulkLoader(rebuilds=lambda change: change.isolates),
}
quiet = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
histories = given(history=HISTORIES, loader=st.sampled_from(sorted(BULK_LOADERS)))


@pytest.fixture(scope="module")
def templates() -> Iterator[dict[Space, Path]]:
    """An empty directory of each space, to be copied: making one takes ChromaDB longer than a short history."""
    with TemporaryDirectory() as place:
        made: dict[Space, Path] = {space: Path(place, space) for space in ("l2", "cosine", "ip")}
        for space, directory in made.items():
            create_directory(directory, CollectionSpec(NAME, 2, space))
        yield made


@settings(quiet, max_examples=300)
@histories
def test_any_history_leaves_the_same_collection(templates: dict[Space, Path], history: History, loader: str) -> None:
    check(templates[history.space], history, BULK_LOADERS[loader])


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(quiet, max_examples=5000)
@histories
def test_any_of_very_many_histories_leaves_the_same_collection(
    templates: dict[Space, Path], history: History, loader: str
) -> None:
    check(templates[history.space], history, BULK_LOADERS[loader])


def check(template: Path, history: History, loader: BulkLoader) -> None:
    """Load, compare, then go on with plain ChromaDB in both directories, through a restart, and compare again."""
    with TemporaryDirectory() as place:
        theirs, ours = (shutil.copytree(template, Path(place, name)) for name in ("api", "bulk"))
        for directory, by in ((theirs, ApiLoader()), (ours, loader)):
            load(directory, history, by)
        assert_equal_tables(theirs, ours)
        with plain_collection(theirs) as expected, plain_collection(ours) as found:
            assert_equal_answers(expected, found, history)
            assert_near(found, history)
            for collection in (expected, found):
                go_on(collection, history)
        with plain_collection(theirs) as expected, plain_collection(ours) as found:
            assert_equal_records(expected, found, history.space)
            held = found.get(include=["embeddings"])
            stored = dict(zip(held["ids"], held["embeddings"], strict=True))
            assert_nearest(found, stored, history.vector(11).tolist(), history.space)


def load(directory: Path, history: History, loader: Loader) -> None:
    """Fold the whole history. What the bulk loader does is verified and settled as fold/fold.py does it."""
    spec, ledger = CollectionSpec(NAME, history.dimension, history.space), None
    for at in range(len(history.folds)):
        plan = planned(ledger, history.run(at))
        if plan.touches_records:
            loader.apply(directory, spec, plan, progress=no_progress)
        if plan.touches_records and loader.name == "bulk":
            verify(directory, spec, plan, progress=no_progress)
            finalize(directory)
        ledger = plan.ledger


def assert_near(collection: Any, history: History) -> None:
    """Ask for the neighbours of some vectors that are stored and of one that is not."""
    vectors = {row_id: history.vector(each.vector) for row_id, each in history.live().items()}
    for number in (1, 5, 10):
        assert_nearest(collection, vectors, history.vector(number).tolist(), history.space)


def go_on(collection: Any, history: History) -> None:
    """Do to a collection what an ordinary client may: replace, add, delete."""
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


def assert_equal_tables(theirs: Path, ours: Path) -> None:
    """Compare what stands in SQLite, row by row."""
    with (
        closing(sqlite3.connect(theirs / "chroma.sqlite3")) as expected,
        closing(sqlite3.connect(ours / "chroma.sqlite3")) as found,
    ):
        for what, question in TABLES.items():
            assert found.execute(question).fetchall() == expected.execute(question).fetchall(), what
        schemas = [
            orjson.loads(each.execute("SELECT schema_str FROM collections").fetchone()[0]) for each in (expected, found)
        ]
        assert schemas[1] == schemas[0]
        last = found.execute("SELECT max(seq_id) FROM embeddings_queue").fetchone()[0]
        assert {seen for (seen,) in found.execute("SELECT seq_id FROM max_seq_id")} <= {last}
        found.execute("INSERT INTO embedding_fulltext_search (embedding_fulltext_search) VALUES ('integrity-check')")
