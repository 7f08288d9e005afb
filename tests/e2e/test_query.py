"""The query function and the compactor's empty event, in real workers with their own roles."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import DeployStack
from tests.e2e.model import Delta, Row
from tests.stack import Stack

pytestmark = pytest.mark.e2e


def put(stack: Stack, *deltas: Delta) -> None:
    stack.put_objects({delta.key: delta.body() for delta in deltas})


def test_the_query_function_answers_from_the_newest_published_snapshot(stack: Stack) -> None:
    put(stack, Delta("docs", (Row("a", (1.0, 0.0), "first", {"n": 1}), Row("b", (0.0, 1.0), "second"))))
    assert stack.compact().status == "SUCCEEDED"
    question = {"collection": "docs", "query_embeddings": [[1, 0]], "n_results": 1}

    before = stack.invoke("query", question)
    put(stack, Delta("docs", (Row("a", None), Row("c", (1.0, 0.1), "third"))))
    published = stack.compact().output["snapshot"]["snapshot_id"]
    after = stack.invoke("query", question)

    assert (before["ids"], before["documents"], before["metadatas"]) == ([["a"]], [["first"]], [[{"n": 1}]])
    assert (after["ids"], after["documents"], after["snapshot_id"]) == ([["c"]], [["third"]], published)


def test_the_query_function_gets_counts_and_peeks_with_chromadbs_filters(stack: Stack) -> None:
    rows = tuple(Row(f"id-{n}", (float(n), 1.0), f"number {n}", {"n": n}) for n in range(5))
    put(stack, Delta("docs", rows))
    assert stack.compact().status == "SUCCEEDED"

    def ask(**question: object) -> Any:
        return stack.invoke("query", {"collection": "docs", **question})

    filters = {"where": {"n": {"$gte": 1}}, "where_document": {"$not_contains": "3"}}
    assert ask(action="get", **filters, limit=2, offset=1)["ids"] == ["id-2", "id-4"]
    assert ask(action="get", ids=["id-1"], include=["embeddings"])["embeddings"] == [[1, 1]]
    assert len(ask(action="peek", limit=3)["documents"]) == 3
    assert (ask(action="count")["count"], ask(action="count")["dimension"]) == (5, 2)
    assert ask(query_embeddings=[[0, 1]], ids=["id-4", "id-2"], **filters)["ids"] == [["id-2", "id-4"]]


@pytest.mark.parametrize("function", ["query", "producer"])
def test_an_invalid_request_gets_an_error_with_a_stable_name(stack: Stack, function: str) -> None:
    assert stack.invoke(function, {"collection": "docs"})["error"]["type"] == "InvalidRequest"


def test_a_missing_snapshot_or_collection_gets_an_error_with_a_stable_name(stack: Stack) -> None:
    question = {"collection": "dogs", "query_embeddings": [[1, 0]]}
    before = stack.invoke("query", question)["error"]
    put(stack, Delta("docs", (Row("a", (1.0, 0.0)),)))
    assert stack.compact().status == "SUCCEEDED"
    after = stack.invoke("query", question)["error"]

    assert before["type"] == after["type"] == "NoSuchCollection"
    assert "nothing is published yet" in before["message"]
    assert after["message"].endswith("has no collection 'dogs', and no pending delta makes it; it has: docs")
    assert stack.invoke("query", {**question, "read_level": "snapshot"})["error"]["type"] == "NoSuchCollection"


def test_a_record_is_found_before_and_after_its_compaction(stack: Stack) -> None:
    question = {"collection": "docs", "query_embeddings": [[1, 0]]}
    put(stack, Delta("docs", (Row("a", (1.0, 0.0)),)))

    before = stack.invoke("query", question)
    assert stack.compact().status == "SUCCEEDED"
    put(stack, Delta("docs", (Row("b", (1.0, 0.1)),)))
    after = stack.invoke("query", question)
    published = stack.invoke("query", {**question, "read_level": "snapshot"})

    assert (before["snapshot_id"], before["ids"]) == (None, [["a"]])
    assert (before["pending"]["applied"], before["pending"]["left"]) == (1, 0)
    assert after["ids"] == [["a", "b"]]
    assert published["snapshot_id"] == after["snapshot_id"]
    assert (published["ids"], published["pending"]) == ([["a"]], None)


def test_the_compactor_starts_an_execution_when_its_event_is_empty(stack: Stack) -> None:
    put(stack, Delta("docs", (Row("a", (1.0, 0.0)),)))

    arn = stack.invoke("compactor", {})["executionArn"]

    assert stack.wait(arn).status == "SUCCEEDED"
    assert stack.keys("delta/") == []


def test_a_successful_execution_lets_the_query_function_open_the_configured_collections(deploy: DeployStack) -> None:
    stack = deploy(config={"queryPrefetchCollections": "docs,missing"})
    put(stack, Delta("docs", (Row("a", (1.0, 0.0)),)))

    published = stack.compact().output["snapshot"]["snapshot_id"]

    stack.eventually(lambda: prefetches(stack) != [], "the rule has called the query function")
    (done,) = prefetches(stack)
    assert done["snapshot_id"] == published
    docs, missing = done["collections"]
    assert (docs["collection"], docs["bytes"] > 0, docs["error"]) == ("docs", True, None)
    assert missing["error"]["kind"] == "NoSuchCollection"
    (again, _) = stack.invoke("query", {"action": "prefetch"})["collections"]
    assert (again["bytes"], again["error"]) == (0, None)


def prefetches(stack: Stack) -> list[Any]:
    """Return what the query function has logged about prefetches."""
    lines = [line for name, log in stack.new_logs().items() if "query" in name for line in log.splitlines()]
    parsed = [json.loads(line) for line in lines if "opened snapshots" in line]
    return [each["result"] for each in parsed]
