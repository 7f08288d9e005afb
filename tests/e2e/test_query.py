"""The query function and the compactor's empty event, in workers of their own, under their own roles."""

from __future__ import annotations

import pytest

from chromadb_compaction.local.testing import FunctionError, Stack
from tests.e2e.model import Delta, Row

pytestmark = pytest.mark.e2e


def put(stack: Stack, *deltas: Delta) -> None:
    stack.put_objects({delta.key: delta.body() for delta in deltas})


def test_the_query_function_answers_from_what_is_published_and_follows_it(stack: Stack) -> None:
    put(stack, Delta("docs", (Row("a", (1.0, 0.0), "first", {"n": 1}), Row("b", (0.0, 1.0), "second"))))
    assert stack.compact().status == "SUCCEEDED"
    question = {"collection": "docs", "query_embeddings": [[1, 0]], "n_results": 1}

    before = stack.invoke("query", question)
    put(stack, Delta("docs", (Row("a", None), Row("c", (1.0, 0.1), "third"))))
    published = stack.compact().output["snapshot"]["snapshot_id"]
    after = stack.invoke("query", question)

    assert (before["ids"], before["documents"], before["metadatas"]) == ([["a"]], [["first"]], [[{"n": 1}]])
    assert (after["ids"], after["documents"], after["snapshot_id"]) == ([["c"]], [["third"]], published)


def test_what_a_caller_did_wrong_comes_back_by_name(stack: Stack) -> None:
    put(stack, Delta("docs", (Row("a", (1.0, 0.0)),)))
    assert stack.compact().status == "SUCCEEDED"

    for request, error in (
        ({"collection": "dogs", "query_embeddings": [[1, 0]]}, "NoSuchCollectionError"),
        ({"collection": "docs", "query_embeddings": [[1, 0, 0]]}, "InvalidRequestError"),
        ({"collection": "docs"}, "InvalidRequestError"),
    ):
        with pytest.raises(FunctionError) as caught:
            stack.invoke("query", request)
        assert caught.value.error_type == error


def test_before_the_first_snapshot_the_query_function_says_so(stack: Stack) -> None:
    with pytest.raises(FunctionError, match="NoSnapshotError: nothing has been published yet"):
        stack.invoke("query", {"collection": "docs", "query_embeddings": [[1, 0]]})


def test_the_compactor_starts_an_execution_when_its_event_is_empty(stack: Stack) -> None:
    put(stack, Delta("docs", (Row("a", (1.0, 0.0)),)))

    arn = stack.invoke("compactor", {})["executionArn"]

    assert stack.wait(arn).status == "SUCCEEDED"
    assert stack.keys("delta/") == []
