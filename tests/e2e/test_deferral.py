"""A collection waits for more rows on the whole system, and everything says so."""

from __future__ import annotations

import json

import pytest

from tests.builders import a_delta
from tests.e2e.commands import command_line
from tests.e2e.conftest import DeployStack
from tests.stack import Stack

pytestmark = pytest.mark.e2e


def put(stack: Stack, rows: int, *, collection: str = "docs", first: int = 0) -> None:
    delta = a_delta({f"id-{n}": [float(n), 1.0] for n in range(first, first + rows)}, collection=collection)
    stack.put_objects({delta.key: delta.body})
    body = json.dumps({"key": delta.key, "rows": rows, "bytes": len(delta.body)})
    stack.sqs.send_message(QueueUrl=str(stack.settings.delta_queue_url), MessageBody=body)


def test_a_collection_waits_until_it_has_enough_rows_or_all_is_asked_for(
    deploy: DeployStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = deploy(config={"compactionMinRows": "10", "compactionMaxAgeMinutes": "600"})
    cli = command_line(stack, monkeypatch, capsys)
    put(stack, 4)
    put(stack, 10, collection="texts")

    first = cli("compact", "--wait")
    status = cli("status")
    fresh = stack.invoke("query", {"collection": "docs", "query_embeddings": [[1.0, 1.0]], "n_results": 10})
    idle = cli("compact", "--wait")
    put(stack, 6, first=4)
    enough = cli("compact", "--wait")
    put(stack, 1, first=10)
    asked = cli("compact", "--wait", "--all")

    assert "texts: 10 added" in first.out
    assert "1 delta waiting until" in first.out
    assert "1 delta waiting for more" in status.out
    assert fresh["pending"]["applied"] == 1
    assert "1 delta waiting until" in idle.out
    assert "docs: 10 added" in enough.out
    assert "docs: 1 added" in asked.out
    assert stack.keys("delta/") == []
    waiting = stack.sqs.get_queue_attributes(
        QueueUrl=str(stack.settings.delta_queue_url),
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    assert {int(value) for value in waiting.values()} == {0}
