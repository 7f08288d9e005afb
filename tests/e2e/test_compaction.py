"""The main job with real deltas, the real state machine and real ChromaDB directories, checked against a model."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.e2e.model import Delta, Record, Row, content_of, expected, plain_client, published, pull
from tests.stack import Stack

pytestmark = pytest.mark.e2e


def vector(rng: np.random.Generator, dimension: int = 8) -> tuple[float, ...]:
    return tuple(rng.standard_normal(dimension).astype(np.float32).tolist())


def some_deltas(collection: str, count: int, *, seed: int, ids: int = 60, rows: int = 7) -> list[Delta]:
    """Return upserts and deletes of few ids in both formats, so that most rows replace an earlier version."""
    rng = np.random.default_rng(seed)
    pick = random.Random(seed)
    deltas = []
    for number in range(count):
        lines = []
        for _ in range(rows):
            id_ = f"id-{pick.randrange(ids)}"
            if pick.random() < 0.2:
                lines.append(Row(id_))
                continue
            document = pick.choice([None, "", f"text {number} Grüße 😀"])
            metadata = pick.choice([None, {"n": number}, {"even": number % 2 == 0, "tags": ["a", "b"], "x": 0.5}])
            lines.append(Row(id_, vector(rng), document, metadata))
        deltas.append(Delta(collection, tuple(lines), suffix=pick.choice([".parquet", ".jsonl.gz"])))
    return deltas


def assert_same(found: dict[str, dict[str, Record]], model: dict[str, dict[str, Record]]) -> None:
    assert found.keys() == model.keys()
    for collection, records in model.items():
        assert found[collection] == records, collection


def test_a_pulled_snapshot_opens_in_plain_chromadb_and_holds_what_the_deltas_say(stack: Stack, tmp_path: Path) -> None:
    deltas = some_deltas("docs", 30, seed=1) + some_deltas("notes", 5, seed=2)
    stack.put_objects({delta.key: delta.body() for delta in deltas})

    result = stack.compact()

    assert result.status == "SUCCEEDED"
    assert_same(published(stack.s3, stack.bucket, tmp_path), expected(deltas))
    assert stack.keys("delta/") == []
    assert len(stack.keys("compacted/")) == len(deltas)
    assert stack.lease() is None


def test_deltas_in_any_order_over_any_number_of_executions_give_the_same_content(stack: Stack, tmp_path: Path) -> None:
    deltas = some_deltas("docs", 24, seed=3)
    shuffled = random.Random(4).sample(deltas, len(deltas))

    for share in (shuffled[:5], shuffled[5:6], shuffled[6:]):
        stack.put_objects({delta.key: delta.body() for delta in share})
        assert stack.compact().status == "SUCCEEDED"

    assert_same(published(stack.s3, stack.bucket, tmp_path), expected(deltas))


def test_one_execution_merges_a_backlog_in_several_batches_and_passes(small_passes: Stack, tmp_path: Path) -> None:
    deltas = some_deltas("docs", 30, seed=5)
    small_passes.put_objects({delta.key: delta.body() for delta in deltas})

    result = small_passes.compact()

    assert result.output["work"]["pass"] > 1
    assert_same(published(small_passes.s3, small_passes.bucket, tmp_path), expected(deltas))
    assert small_passes.keys("delta/") == []


def test_merging_the_same_deltas_again_changes_nothing(stack: Stack) -> None:
    deltas = some_deltas("docs", 12, seed=6)
    stack.put_objects({delta.key: delta.body() for delta in deltas})
    stack.compact()
    pointer = stack.get("snapshot/CURRENT")

    for key in stack.keys("compacted/"):
        stack.put_objects({key.replace("compacted/", "delta/"): stack.get(key)})
    result = stack.compact()

    assert result.output["snapshot"]["published"] is False
    assert stack.get("snapshot/CURRENT") == pointer
    assert stack.keys("delta/") == []


def test_a_collection_without_new_rows_is_not_transferred(stack: Stack, tmp_path: Path) -> None:
    first = some_deltas("docs", 4, seed=7) + some_deltas("notes", 4, seed=8)
    stack.put_objects({delta.key: delta.body() for delta in first})
    stack.compact()
    before = {key for key in stack.keys("snapshot/") if "/docs/" in key}

    second = some_deltas("notes", 2, seed=9)
    stack.put_objects({delta.key: delta.body() for delta in second})
    stack.compact()

    assert {key for key in stack.keys("snapshot/") if "/docs/" in key} == before
    assert_same(published(stack.s3, stack.bucket, tmp_path), expected(first + second))


def test_a_newer_upsert_removes_the_metadata_and_documents_that_it_lacks(stack: Stack, tmp_path: Path) -> None:
    rich = Delta("docs", (Row("a", (1.0, 2.0), "words", {"k": 1, "l": "x"}), Row("b", (3.0, 4.0), "more", {"k": 2})))
    poor = Delta("docs", (Row("a", (1.0, 2.0), None, {"l": "y"}), Row("b", (3.0, 4.0))))
    for delta in (rich, poor):
        stack.put_objects({delta.key: delta.body()})
        stack.compact()

    content = content_of(pull(stack.s3, stack.bucket, tmp_path)["docs"], "docs")

    assert content == {"a": ((1.0, 2.0), None, {"l": "y"}), "b": ((3.0, 4.0), None, None)}


def test_a_late_older_upsert_does_not_resurrect_a_deleted_id(stack: Stack, tmp_path: Path) -> None:
    late = Delta("docs", (Row("a", (1.0, 1.0), "late"),))
    early = Delta("docs", (Row("a", (0.0, 1.0)), Row("b", (0.0, 1.0))))
    deletes = Delta("docs", (Row("a"),))
    for delta in (early, deletes, late):
        stack.put_objects({delta.key: delta.body()})
        assert stack.compact().status == "SUCCEEDED"

    assert_same(published(stack.s3, stack.bucket, tmp_path), {"docs": {"b": ((0.0, 1.0), None, None)}})


def test_cosine_and_inner_product_collections_keep_their_space(stack: Stack, tmp_path: Path) -> None:
    for space in ("cosine", "ip"):
        plain = Delta(f"by-{space}", (Row("a", (3.0, 4.0)), Row("b", (-1.0, 2.0))))
        table = pq.read_table(io.BytesIO(plain.body()))
        header = json.dumps({"format": 1, "space": space, "embedding_function": "wordllama"})
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({"chromadb_compaction": header}), buffer)
        stack.put_objects({plain.key: buffer.getvalue()})
    stack.compact()

    for collection, directory in pull(stack.s3, stack.bucket, tmp_path).items():
        with plain_client(directory) as client:
            hnsw = client.get_collection(collection).configuration["hnsw"]
        assert hnsw is not None
        assert hnsw["space"] == collection.removeprefix("by-")
        # ChromaDB scales cosine vectors to unit length and back, which moves the last bits.
        assert np.allclose(content_of(directory, collection)["a"][0], (3.0, 4.0), atol=1e-5)
