"""The contract of every loader, checked with only chromadb and sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pyarrow as pa
import pytest
from chromadb.config import Settings

from chromadb_compaction.chroma.bulk_loader import BulkLoader
from chromadb_compaction.chroma.client import CollectionSpec, create_directory, open_collection
from chromadb_compaction.chroma.loader import ApiLoader, Loader
from chromadb_compaction.chroma.verification import verify
from chromadb_compaction.configuration import KeptSettings, Space
from chromadb_compaction.fold.fold import no_progress
from chromadb_compaction.fold.kept_settings import write_settings
from chromadb_compaction.rows.ledger import FoldPlan
from tests.runs import a_run, planned

NAME = "docs"


def contents(directory: Path) -> dict[str, tuple[list[float], str | None, dict[str, Any] | None]]:
    """Read every record with plain chromadb."""
    with closing(plain_client(directory)) as client:
        found = client.get_collection(NAME).get(include=["embeddings", "documents", "metadatas"])
    return {
        row_id: (embedding.tolist(), document, metadata)
        for row_id, embedding, document, metadata in zip(
            found["ids"], found["embeddings"], found["documents"], found["metadatas"], strict=True
        )
    }


def plain_client(directory: Path) -> Any:
    return chromadb.PersistentClient(path=directory, settings=Settings(anonymized_telemetry=False))


def queued_operations(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "chroma.sqlite3")) as database:
        return int(database.execute("SELECT count(*) FROM embeddings_queue").fetchone()[0])


class LoaderContract:
    """Every implementation of the port inherits these tests."""

    loader: Loader

    def fold(
        self,
        directory: Path,
        *runs: pa.Table,
        space: Space = "l2",
        dimension: int = 2,
        settings: KeptSettings | None = None,
    ) -> FoldPlan:
        """Create the directory, fold each run in turn and verify it. Return the last plan."""
        spec, ledger = CollectionSpec(NAME, dimension, space), None
        create_directory(directory, spec)
        if settings is not None:
            write_settings(directory, settings)
        for run in runs:
            plan = planned(ledger, run)
            self.loader.apply(directory, spec, plan, progress=no_progress)
            verify(directory, spec, plan, progress=no_progress)
            ledger = plan.ledger
        return plan

    def test_a_new_collection_opens_with_plain_chromadb_and_holds_every_record(self, tmp_path: Path) -> None:
        run = a_run(
            {"a": [1, 0.1], "b": [0, 1], "c": [2, 2]},
            documents={"a": "first", "c": ""},
            metadatas={"a": {"int": 1, "float": 1.0, "bool": True, "list": ["x", "y"]}, "b": {"ü": "é"}},
        )
        self.fold(tmp_path / "new", run)
        assert contents(tmp_path / "new") == {
            "a": (
                [1, float(np.float32(0.1))],
                "first",
                {"int": 1, "float": 1.0, "bool": True, "list": ["x", "y"]},
            ),
            "b": ([0, 1], None, {"ü": "é"}),
            "c": ([2, 2], "", None),
        }

    def test_the_index_is_built_and_changed_with_the_settings_of_the_collection(self, tmp_path: Path) -> None:
        rows = [{str(row): [row, number] for row in range(60)} for number in (1, 2)]
        runs = [a_run(each, delta=number) for number, each in enumerate(rows, 1)]
        self.fold(tmp_path, *runs, settings=KeptSettings(max_neighbors=32, ef_construction=200))

        with closing(plain_client(tmp_path)) as client:
            collection = client.get_collection(NAME)
            index = collection.configuration_json["hnsw"]
            assert (index["max_neighbors"], index["ef_construction"], index["ef_search"]) == (32, 200, 100)
            assert collection.query(query_embeddings=[[7, 2]], n_results=1)["ids"] == [["7"]]
        (header,) = tmp_path.glob("*/header.bin")
        # hnswlib stores maxM_ after the version, six sizes, the greatest level and the entry point.
        assert int.from_bytes(header.read_bytes()[60:68], "little") == 32

    def test_a_replacement_replaces_the_whole_record(self, tmp_path: Path) -> None:
        old = a_run({"a": [1, 0]}, documents={"a": "gone"}, metadatas={"a": {"gone": 1, "kept": 1}}, delta=1)
        self.fold(tmp_path, old, a_run({"a": [0, 5]}, metadatas={"a": {"kept": 2}}, delta=2))
        assert contents(tmp_path) == {"a": ([0, 5], None, {"kept": 2})}
        with closing(plain_client(tmp_path)) as client:
            collection = client.get_collection(NAME)
            assert collection.get(where={"gone": 1})["ids"] == []
            assert collection.get(where_document={"$contains": "gone"})["ids"] == []
            assert collection.query(query_embeddings=[[0, 5]], n_results=1)["distances"] == [[0.0]]

    def test_a_replacement_replaces_the_uri_too(self, tmp_path: Path) -> None:
        old = a_run(
            {"a": [1, 0], "b": [2, 0], "c": [3, 0], "d": [4, 0]},
            uris={"a": "s3://a", "b": "s3://b", "c": "", "d": "s3://d"},
            metadatas={"b": {"n": 1}},
            delta=1,
        )
        new = a_run({"a": [1, 0], "b": [5, 0], "d": [4, 0]}, uris={"a": "s3://new"}, delta=2)
        plan = self.fold(tmp_path, old, new)
        assert (plan.edits.num_rows, plan.replacements.num_rows) == (2, 1)
        with closing(plain_client(tmp_path)) as client:
            found = client.get_collection(NAME).get(include=["uris", "metadatas"])
        assert dict(zip(found["ids"], found["uris"], strict=True)) == {"a": "s3://new", "b": None, "c": "", "d": None}
        assert not any(found["metadatas"])

    def test_inserts_replacements_and_deletes_apply_together(self, tmp_path: Path) -> None:
        base = a_run({"a": [1, 0], "b": [2, 0], "c": [3, 0]}, delta=1)
        self.fold(tmp_path, base, a_run({"b": [2, 2], "d": [4, 0]}, deletes={"c", "unknown"}, delta=2))
        assert {row_id: row[0] for row_id, row in contents(tmp_path).items()} == {"a": [1, 0], "b": [2, 2], "d": [4, 0]}

    @pytest.mark.parametrize(
        "second",
        [
            pytest.param(a_run({"d": [4, 0]}, delta=2), id="one insert"),
            pytest.param(a_run({"a": [4, 0]}, delta=2), id="one replacement"),
            pytest.param(a_run(deletes={"a"}, delta=2), id="one delete"),
            pytest.param(a_run(deletes={"a", "b", "c"}, delta=2), id="everything deleted"),
        ],
    )
    def test_the_index_is_flushed_after_a_fold_of_any_size(self, tmp_path: Path, second: pa.Table) -> None:
        base = a_run({"a": [1, 0], "b": [2, 0], "c": [3, 0]}, delta=1)
        plan = self.fold(tmp_path, base, second)
        assert queued_operations(tmp_path) <= 1
        assert len(contents(tmp_path)) == plan.counts.records

    def test_a_single_record_makes_a_collection(self, tmp_path: Path) -> None:
        self.fold(tmp_path, a_run({"only": [1, 2]}))
        assert queued_operations(tmp_path) <= 1
        assert contents(tmp_path) == {"only": ([1, 2], None, None)}

    def test_a_collection_emptied_and_filled_again_answers_queries(self, tmp_path: Path) -> None:
        self.fold(tmp_path, a_run({"a": [1, 0]}), a_run(deletes={"a"}, delta=2), a_run({"b": [3, 0]}, delta=3))
        with closing(plain_client(tmp_path)) as client:
            assert client.get_collection(NAME).query(query_embeddings=[[1, 0]], n_results=1)["ids"] == [["b"]]

    def test_more_rows_than_chromadb_takes_at_once_are_flushed_once(self, tmp_path: Path) -> None:
        count = 10_001
        self.fold(tmp_path, a_run({f"row-{number}": [number, 1] for number in range(count)}))
        assert queued_operations(tmp_path) <= 1
        with closing(plain_client(tmp_path)) as client:
            collection = client.get_collection(NAME)
            assert collection.count() == count
            assert collection.query(query_embeddings=[[777, 1]], n_results=1)["ids"] == [["row-777"]]

    @pytest.mark.parametrize("space", ["l2", "cosine", "ip"])
    @pytest.mark.parametrize("dimension", [1, 2, 1536])
    def test_every_space_and_dimension_reads_back(self, tmp_path: Path, space: Space, dimension: int) -> None:
        vectors = np.random.default_rng(dimension).standard_normal((20, dimension)) * 3
        vectors[0] = 0
        rows: dict[str, Sequence[float]] = {f"row-{number}": vector.tolist() for number, vector in enumerate(vectors)}
        self.fold(tmp_path, a_run(rows), space=space, dimension=dimension)
        with closing(plain_client(tmp_path)) as client:
            assert client.get_collection(NAME).configuration["hnsw"]["space"] == space

    def test_chromadbs_api_can_go_on_writing_to_the_directory(self, tmp_path: Path) -> None:
        self.fold(tmp_path, a_run({"a": [1, 0], "b": [2, 0]}))
        with closing(plain_client(tmp_path)) as client:
            collection = client.get_collection(NAME)
            assert collection.configuration["hnsw"]["sync_threshold"] == 1000
            collection.upsert(ids=["a", "c"], embeddings=[[9, 9], [8, 8]])
            collection.delete(ids=["b"])
        assert {row_id: row[0] for row_id, row in contents(tmp_path).items()} == {"a": [9, 9], "c": [8, 8]}

    def test_the_directory_is_closed_afterwards(self, tmp_path: Path) -> None:
        self.fold(tmp_path, a_run({"a": [1, 0]}))
        assert [path.name for path in tmp_path.glob("chroma.sqlite3?*")] == []
        with closing(sqlite3.connect(tmp_path / "chroma.sqlite3", timeout=0)) as database:
            database.execute("BEGIN EXCLUSIVE")

    def test_a_vector_replaced_while_the_only_other_record_is_deleted_stays_replaced(self, tmp_path: Path) -> None:
        # ChromaDB applies both at once in random order, and only one order can fail: so repeat it.
        for number in range(8):
            directory = tmp_path / str(number)
            self.fold(directory, a_run({"a": [0, 0], "b": [0, 0]}, delta=1), a_run({"a": [1, 0]}, {"b"}, delta=2))
            with open_collection(directory, NAME) as collection:
                assert np.asarray(collection.get(ids=["a"], include=["embeddings"])["embeddings"]).tolist() == [[1, 0]]

    def test_an_exception_from_progress_stops_the_loader(self, tmp_path: Path) -> None:
        def lost() -> None:
            raise TimeoutError("the lease is lost")

        spec, plan = CollectionSpec(NAME, 2, "l2"), planned(None, a_run({"a": [1, 0]}))
        create_directory(tmp_path, spec)
        with pytest.raises(TimeoutError, match="lease"):
            self.loader.apply(tmp_path, spec, plan, progress=lost)


class TestApiLoader(LoaderContract):
    loader = ApiLoader()


class TestBulkLoader(LoaderContract):
    loader = BulkLoader()


class TestBulkLoaderThatRebuildsEachIndex(LoaderContract):
    loader = BulkLoader(rebuilds=lambda _: True)


class TestBulkLoaderThatChangesEachIndexInPlace(LoaderContract):
    loader = BulkLoader(rebuilds=lambda change: change.strands)
