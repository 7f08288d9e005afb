"""The files of a small index: no larger than its entries, and ChromaDB goes on writing to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chromadb_compaction.chroma.bulk_loader import BulkLoader
from chromadb_compaction.chroma.client import CollectionSpec, create_directory, finalize, open_collection
from chromadb_compaction.chroma.index_files import LEAST_CAPACITY, trim_capacity
from chromadb_compaction.chroma.verification import verify
from chromadb_compaction.configuration import Space
from chromadb_compaction.fold.fold import no_progress
from tests.runs import a_run, planned


def a_directory(directory: Path, space: Space, records: int) -> Path:
    """Make a directory with vectors (1, 0), (1, 1), ..., and return the directory of its index."""
    spec = CollectionSpec("small", 2, space)
    plan = planned(None, a_run({f"{number}": [1.0, float(number)] for number in range(records)}))
    create_directory(directory, spec)
    BulkLoader().apply(directory, spec, plan, progress=no_progress)
    verify(directory, spec, plan, progress=no_progress)
    finalize(directory)
    return next(directory.glob("*/header.bin")).parent


def bytes_of(segment: Path, name: str) -> int:
    return (segment / name).stat().st_size


@pytest.mark.parametrize("space", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("records", [1, 7, LEAST_CAPACITY - 1, LEAST_CAPACITY])
def test_a_small_index_is_no_larger_than_its_entries_and_grows_again(
    tmp_path: Path, space: Space, records: int
) -> None:
    segment = a_directory(tmp_path, space, records)

    assert bytes_of(segment, "length.bin") == 4 * records
    with open_collection(tmp_path, "small") as opened:
        collection: Any = opened
        collection.modify(configuration={"hnsw": {"sync_threshold": 2}})
        new = {f"new-{number}": [-1.0, -float(number)] for number in range(2 * LEAST_CAPACITY)}
        for row_id, vector in new.items():
            collection.add(ids=[row_id], embeddings=[vector])
    with open_collection(tmp_path, "small") as opened:
        assert opened.count() == records + len(new)
        found = opened.query(query_embeddings=[[-1.0, -5.0]], n_results=1)  # type: ignore[arg-type] # a list of lists is documented
        expected = {"l2": "new-5", "cosine": "new-5", "ip": f"new-{2 * LEAST_CAPACITY - 1}"}
        assert found["ids"] == [[expected[space]]]


def test_trimming_twice_or_a_larger_index_changes_nothing(tmp_path: Path) -> None:
    for records in (3, LEAST_CAPACITY + 1):
        segment = a_directory(tmp_path / str(records), "l2", records)
        before = {file.name: file.read_bytes() for file in segment.iterdir()}
        trim_capacity(segment)
        assert {file.name: file.read_bytes() for file in segment.iterdir()} == before
