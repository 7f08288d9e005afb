"""The page size: the rule against SQLite itself, and the rewriting of directories."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromadb_compaction.chroma.bulk_loader import BulkLoader
from chromadb_compaction.chroma.client import SQLITE_FILE, CollectionSpec, create_directory, finalize, open_collection
from chromadb_compaction.chroma.loader import ApiLoader, Loader
from chromadb_compaction.chroma.page_size import (
    DEFAULT_PAGES,
    LARGE_PAGES,
    LARGEST_PAGES,
    LEAST_PAGES,
    PAGE_SIZES,
    best_page_size,
)
from chromadb_compaction.chroma.verification import verify
from chromadb_compaction.fold.fold import no_progress
from chromadb_compaction.rows.ledger import FoldPlan
from tests.runs import a_run, planned

SPEC = CollectionSpec("docs", 2, "l2")


def a_plan(length: int, count: int, *, before: FoldPlan | None = None, first: int = 0, delta: int = 1) -> FoldPlan:
    """Plan new records whose documents have that length, and whose vectors differ."""
    ids = [f"row-{number:05d}" for number in range(first, first + count)]
    documents = {row_id: (f"{row_id} lorem ipsum dolor " * (length // 20 + 1))[:length] for row_id in ids}
    vectors = {row_id: [1.0, float(number)] for number, row_id in enumerate(ids)}
    return planned(before.ledger if before else None, a_run(vectors, documents=documents, delta=delta))


def load(directory: Path, plan: FoldPlan, loader: Loader | None = None) -> None:
    create_directory(directory, SPEC)
    (loader or BulkLoader()).apply(directory, SPEC, plan, progress=no_progress)
    verify(directory, SPEC, plan, progress=no_progress)
    finalize(directory)


def page_size(directory: Path) -> int:
    with closing(sqlite3.connect(directory / SQLITE_FILE)) as database:
        return int(database.execute("PRAGMA page_size").fetchone()[0])


@pytest.mark.parametrize(
    ("lengths", "documents", "size"),
    [
        pytest.param([], 0, DEFAULT_PAGES, id="no documents"),
        pytest.param([300], 100_000, DEFAULT_PAGES, id="short documents"),
        pytest.param([900], 100_000, DEFAULT_PAGES, id="they fit into a quarter of a small page"),
        pytest.param([1000], 100_000, LARGE_PAGES, id="they do not fit by a few bytes"),
        pytest.param([2000], 100_000, LARGE_PAGES, id="longer documents"),
        pytest.param([3500], 100_000, LARGEST_PAGES, id="they fit into a quarter of the largest page"),
        pytest.param([9000], 100_000, DEFAULT_PAGES, id="they fit into a quarter of no page"),
        pytest.param([100, 300, 900, 2700], 100_000, LARGE_PAGES, id="documents of many lengths"),
        pytest.param([2000, 3000, 5000, 6000], 100_000, LARGEST_PAGES, id="long documents of many lengths"),
        pytest.param([1000], 100, DEFAULT_PAGES, id="so few that the tables take more than the documents"),
    ],
)
def test_large_pages_are_chosen_for_documents_that_would_overflow_small_ones(
    lengths: list[int], documents: int, size: int
) -> None:
    assert best_page_size(lengths, documents) == size


@pytest.mark.parametrize("length", [300, 900, 1000, 1500, 3000, 5300, 9000])
def test_the_chosen_page_size_makes_the_smallest_database(tmp_path: Path, length: int) -> None:
    chosen = best_page_size([length], 2000)
    texts = [f"{number:08d}".ljust(length, "x") for number in range(2000)]
    bytes_of: dict[int, int] = {}
    for size in PAGE_SIZES:
        file = tmp_path / f"{size}"
        with closing(sqlite3.connect(file, isolation_level=None)) as database:
            database.executescript(
                f"PRAGMA page_size = {size};"
                "CREATE TABLE embedding_metadata (id, key, string_value, PRIMARY KEY (id, key));"
                "CREATE INDEX string_value ON embedding_metadata (key, string_value);"
                "CREATE TABLE content (id, c0); BEGIN;"
            )
            for number, text in enumerate(texts):
                database.execute("INSERT INTO embedding_metadata VALUES (?, 'chroma:document', ?)", (number, text))
                database.execute("INSERT INTO content VALUES (?, ?)", (number, text))
            database.execute("COMMIT")
        bytes_of[size] = file.stat().st_size

    # A database that is a little smaller with larger pages keeps its smaller ones.
    for size in PAGE_SIZES:
        assert bytes_of[chosen] <= bytes_of[size] * (1 if size < chosen else 1.05)


def test_a_new_directory_of_such_documents_is_smaller_than_chromadbs_and_chromadb_goes_on_writing_to_it(
    tmp_path: Path,
) -> None:
    plan = a_plan(1000, 600)
    ours, api = tmp_path / "ours", tmp_path / "api"
    load(ours, plan)
    load(api, plan, ApiLoader())

    assert (page_size(ours), page_size(api)) == (LARGE_PAGES, DEFAULT_PAGES)
    assert (ours / SQLITE_FILE).stat().st_size < 0.8 * (api / SQLITE_FILE).stat().st_size
    with open_collection(ours, "docs") as opened:
        collection: Any = opened
        collection.upsert(ids=["new", "row-00001"], embeddings=[[0, 0], [0, 1]], documents=["a new fox", "another fox"])
        assert collection.get(where_document={"$contains": "fox"}, include=[])["ids"] == ["row-00001", "new"]
    assert page_size(ours) == LARGE_PAGES


def test_the_pages_of_a_new_directory_are_full_whatever_the_order_of_its_documents(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ids = [f"row-{number:05d}" for number in range(2000)]
    documents = {row_id: " ".join(rng.choice(["fox", "dog", "bear", "hare"], 200)) for row_id in ids}
    plan = planned(None, a_run({row_id: [1.0, float(row_id[-5:])] for row_id in ids}, documents=documents))
    load(tmp_path, plan)

    file = tmp_path / SQLITE_FILE
    written = file.stat().st_size
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("VACUUM")
    assert written < 1.02 * file.stat().st_size


def test_a_directory_gets_the_page_size_of_its_newest_documents_when_its_index_is_rebuilt(tmp_path: Path) -> None:
    first = a_plan(100, 3000)
    load(tmp_path, first)
    assert page_size(tmp_path) == DEFAULT_PAGES
    second = a_plan(1000, 1500, before=first, first=3000, delta=2)
    load(tmp_path, second, BulkLoader(rebuilds=lambda _: False))
    assert page_size(tmp_path) == DEFAULT_PAGES
    load(tmp_path, a_plan(1000, 1, before=second, first=4500, delta=3), BulkLoader(rebuilds=lambda _: True))
    assert page_size(tmp_path) == LARGE_PAGES


def test_a_directory_gets_its_page_size_when_free_pages_are_reclaimed(tmp_path: Path) -> None:
    first = a_plan(1000, 2000)
    load(tmp_path, first)
    assert page_size(tmp_path) == LARGE_PAGES
    deletes = {f"row-{number:05d}" for number in range(900)}
    shorter = {f"row-{number:05d}": "short " * 100 for number in range(900, 2000)}
    run = a_run({row_id: [1.0, float(row_id[-5:])] for row_id in shorter}, deletes, documents=shorter, delta=2)
    load(tmp_path, planned(first.ledger, run), BulkLoader(rebuilds=lambda _: False))
    assert page_size(tmp_path) == DEFAULT_PAGES


def test_a_small_directory_has_the_least_pages_until_it_has_grown(tmp_path: Path) -> None:
    first = a_plan(100, 5)
    load(tmp_path, first)
    assert page_size(tmp_path) == LEAST_PAGES
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 64 * 1024

    second = a_plan(100, 100, before=first, first=5, delta=2)
    load(tmp_path, second, BulkLoader(rebuilds=lambda _: False))
    assert page_size(tmp_path) == LEAST_PAGES
    third = a_plan(300, 1500, before=second, first=105, delta=3)
    load(tmp_path, third, BulkLoader(rebuilds=lambda _: False))
    assert page_size(tmp_path) == DEFAULT_PAGES
