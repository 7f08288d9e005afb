"""The query function and ChromaDB's interface over a partitioned collection, compared with one directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.steps.query import answer
from chromadb_compaction.steps.query_messages import QueryEvent
from tests.builders import NOW, a_delta
from tests.fakes.bucket_client import client_of
from tests.fakes.services import Fakes
from tests.partitioned import PartitionedBucket

ROWS: dict[str, Any] = {f"row-{number}": [number, 1] for number in range(9)}
REQUESTS: list[dict[str, Any]] = [
    {
        "action": "query",
        "query_embeddings": [[3.1, 1], [7.2, 1]],
        "n_results": 3,
        "include": ["documents", "distances"],
    },
    {"action": "query", "query_embeddings": [[3.1, 1]], "where": {"even": True}},
    {"action": "query", "query_embeddings": [[4, 1]], "n_results": 20},  # pairs of one distance
    {"action": "get", "ids": ["row-8", "row-1", "none"]},
    {"action": "get", "where_document": {"$contains": "7"}, "include": ["embeddings", "uris"]},
    {"action": "get", "limit": 4, "offset": 2},
    {"action": "peek", "limit": 5},
    {"action": "count"},
]


@pytest.fixture
def bucket(tmp_path: Path) -> PartitionedBucket:
    made = PartitionedBucket(tmp_path, ["", "row-3", "row-6"])
    metadatas = {row_id: {"even": number % 2 == 0} for number, row_id in enumerate(ROWS)}
    made.compact(a_delta(ROWS, documents={row_id: f"the {row_id}" for row_id in ROWS}, metadatas=metadatas, at=NOW))
    made.write(a_delta({"row-9": [9, 1]}, deletes={"row-4"}, at=NOW + 1))
    return made


@pytest.mark.parametrize("read_level", ["fresh", "snapshot"])
def test_the_query_function_answers_as_from_one_directory(bucket: PartitionedBucket, read_level: str) -> None:
    def answers(fakes: Fakes) -> list[dict[str, Any]]:
        reader = FreshReader()
        events = [
            QueryEvent.model_validate({"collection": "docs", "read_level": read_level, **each}) for each in REQUESTS
        ]
        found = [answer(each.root, fakes.services, reader=reader).model_dump() for each in events]
        reader.close()
        for each in found:
            if each["pending"]:
                each["pending"].pop("refresh_ms")
        return found

    single, divided = map(answers, bucket.both)

    assert divided == single


def test_a_client_answers_as_from_one_directory(bucket: PartitionedBucket) -> None:
    def answers(fakes: Fakes) -> list[Any]:
        with client_of(fakes) as client:
            docs: Any = client.get_collection("docs", embedding_function=None)
            return [
                docs.count(),
                docs.get(where={"even": True}, limit=2, offset=1),
                docs.query(query_embeddings=[[5.2, 9]], n_results=3),
                docs.peek(3)["ids"],
            ]

    single, divided = map(answers, bucket.both)

    assert divided == single
    assert divided[2]["ids"] == [["row-5", "row-6", "row-7"]]
