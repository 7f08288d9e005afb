"""Produce: records and deletes of a request become deltas."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.deltas.formats import Delta, read_delta
from chromadb_compaction.deltas.header import DeltaHeader
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import Settings
from chromadb_compaction.steps.produce import Produced, ProduceEvent, produce
from tasks.handling import parse
from tests.builders import NOW
from tests.fakes.leases import InMemoryLeaseStore
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.queue import InMemoryDeltaQueue


@pytest.fixture
def services() -> Services:
    return Services(
        settings=Settings(chromadb_bucket="a-bucket", delta_queue_url="https://queue"),
        objects=InMemoryObjectStore(),
        leases=InMemoryLeaseStore(),
        queue=InMemoryDeltaQueue(),
        clock=lambda: NOW,
    )


def ask(services: Services, **event: Any) -> Produced:
    default = {} if "requests" in event else {"collection": "docs"}
    return produce(parse(ProduceEvent, {**default, **event}), services)


def only_delta(services: Services, result: Produced) -> Delta:
    (key,) = result.deltas
    stored = services.objects.get(key)
    return read_delta(key, stored.body, now=stored.modified, max_bytes=10**7)


def test_records_and_deletes_become_one_delta(services: Services) -> None:
    record = {"id": "a", "embedding": [1, 2.5], "document": "text", "metadata": {"n": 1, "tags": ["x"]}}
    result = ask(services, records=[record, {"id": "b", "embedding": [0, 0]}], deletes=["c"])

    table = only_delta(services, result).table
    assert (result.upserts, result.deletes) == (2, 1)
    assert table.select(["id", "deleted", "embedding", "document", "metadata"]).to_pylist() == [
        {"id": "a", "deleted": False, "embedding": [1, 2.5], "document": "text", "metadata": '{"n":1,"tags":["x"]}'},
        {"id": "b", "deleted": False, "embedding": [0, 0], "document": None, "metadata": None},
        {"id": "c", "deleted": True, "embedding": None, "document": None, "metadata": None},
    ]


def test_a_notification_is_sent_for_each_delta(services: Services) -> None:
    result = ask(services, deletes=["a"])

    assert [notification.key for notification in chain.from_iterable(services.queue.receive(10))] == result.deltas


def test_documents_without_embeddings_are_embedded(services: Services) -> None:
    given = embed(["something else"], "wordllama")[0]
    result = ask(
        services,
        records=[
            {"id": "a", "document": "run a shell command"},
            {"id": "b", "document": "kept", "embedding": given.tolist()},
            {"id": "c", "document": "parse a date"},
        ],
    )

    delta = only_delta(services, result)
    vectors = np.array(delta.table["embedding"].to_pylist(), dtype=np.float32)
    assert np.array_equal(vectors[1], given)
    assert np.allclose(vectors[[0, 2]], embed(["run a shell command", "parse a date"], "wordllama"))
    assert delta.header.embedding_function == "wordllama"


def test_records_with_embeddings_name_no_embedding_function(services: Services) -> None:
    result = ask(services, records=[{"id": "a", "embedding": [1]}], space="cosine")

    assert only_delta(services, result).header == DeltaHeader(space="cosine", producer="producer function")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({}, "neither records nor deletes"),
        ({"records": [{"id": "a"}]}, "row 0 (id 'a'): has neither an embedding nor a document to embed"),
        ({"records": [{"id": "a", "embedding": [1]}], "deletes": ["a"]}, "'a' is both in records and in deletes"),
        ({"deletes": ["a", ""]}, "deletes holds an empty id, at position 1"),
        ({"records": [{"id": "", "embedding": [1]}]}, "row 0: id is empty"),
        (
            {"records": [{"id": "a", "embedding": [1]}, {"id": "b", "embedding": [1, 2]}]},
            "row 1 (id 'b'): embedding has 2 dimensions, but that of row 0 has 1",
        ),
        (
            {"records": [{"id": "a", "embedding": [1]}, {"id": "b", "document": "text"}]},
            "row 1 (id 'b'): embedding has 256 dimensions, but that of row 0 has 1",
        ),
        ({"records": [{"id": "a", "embedding": [float("nan")]}]}, "row 0 (id 'a'): embedding holds NaN"),
        ({"records": [{"id": "a", "embedding": []}]}, "row 0 (id 'a'): embedding is empty"),
        ({"records": [{"id": "a", "embedding": ["1"]}]}, "ProduceEvent: one.records.0.embedding.0"),
        ({"records": [{"id": "a", "embeding": [1]}]}, "ProduceEvent: one.records.0.embeding"),
        ({"records": [{"id": "a", "embedding": [1], "metadata": {"a": {"b": 1}}}]}, "metadata key 'a' holds an object"),
        (
            {"records": [{"id": "a", "document": "x"}], "embedding_function": "nope"},
            "'nope' is unknown; choose one",
        ),
        ({"collection": "!", "deletes": ["a"]}, "breaks the rule"),
        (
            {"records": [{"id": "a", "embedding": [1]}], "dimension": 2},
            "embeddings have 1 dimensions, but the collection has 2",
        ),
        (
            {"records": [{"id": "a", "document": "text"}], "dimension": 2, "embedding_function": "wordllama"},
            "embeddings have 256 dimensions, but the collection has 2",
        ),
        ({"requests": []}, "ProduceEvent: several.requests"),
        ({"requests": [{"collection": "docs", "deletes": ["a"]}, {"collection": "docs"}]}, "neither records nor"),
        (
            {
                "requests": [
                    {"collection": "docs", "deletes": ["a"], "space": "ip"},
                    {"collection": "docs", "deletes": ["b"], "space": "l2"},
                ]
            },
            "differ in space: 'ip' and 'l2'",
        ),
        (
            {
                "requests": [
                    {"collection": "docs", "records": [{"id": str(n), "embedding": [n] * 2000} for n in range(900)]},
                    {"collection": "docs", "records": [{"id": "a", "embedding": [1]}]},
                ]
            },
            "embeddings have 1 dimensions, but this writer's earlier rows have 2000",
        ),
    ],
)
def test_an_invalid_request_is_refused_and_nothing_is_written(
    services: Services, event: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ask(services, **event)

    assert reason in str(caught.value)
    assert isinstance(services.objects, InMemoryObjectStore)
    assert not services.objects.objects


def test_many_small_requests_become_one_delta_per_collection_and_the_later_row_wins(services: Services) -> None:
    result = ask(
        services,
        requests=[
            {"collection": "docs", "records": [{"id": "a", "embedding": [1]}], "space": "ip"},
            {"collection": "notes", "deletes": ["n"]},
            {"collection": "docs", "deletes": ["a"]},
            {"collection": "docs", "records": [{"id": "a", "embedding": [2]}, {"id": "b", "embedding": [3]}]},
        ],
    )

    docs, notes = (
        read_delta(key, services.objects.get(key).body, now=NOW * 2, max_bytes=10**7) for key in result.deltas
    )
    assert (docs.collection, notes.collection) == ("docs", "notes")
    assert docs.table["id"].to_pylist() == ["a", "a", "a", "b"]
    assert docs.table["deleted"].to_pylist() == [False, True, False, False]
    assert (docs.header.space, notes.header.space) == ("ip", None)
    assert (result.upserts, result.deletes) == (3, 2)


def test_a_large_request_becomes_deltas_of_one_to_five_megabytes(services: Services) -> None:
    vectors = np.random.default_rng(0).standard_normal((4500, 384)).astype(np.float32).tolist()

    result = ask(services, records=[{"id": str(n), "embedding": vector} for n, vector in enumerate(vectors)])

    sizes = [len(services.objects.get(key).body) for key in result.deltas]
    assert len(sizes) == 2
    assert all(2**20 < size < 5 * 2**20 for size in sizes)
