from __future__ import annotations

import io
import json
from typing import Any

import boto3
import pytest

from chromadb_compaction.aws.functions import RESPONSE_SECONDS, invoke
from chromadb_compaction.errors import CompactionError, NoSnapshotError, NoSuchCollectionError

REQUEST = {"collection": "docs"}


class Lambda:
    """A Lambda client that returns `payload`, and keeps what it was given."""

    def __init__(self, payload: object, **result: str) -> None:
        self.payload = payload
        self.result = result
        self.given: dict[str, Any] = {}
        self.config: Any = None

    def invoke(self, **given: object) -> dict[str, object]:
        self.given = given
        return {"Payload": io.BytesIO(json.dumps(self.payload).encode()), **self.result}


def respond(monkeypatch: pytest.MonkeyPatch, payload: object, **result: str) -> Lambda:
    client = Lambda(payload, **result)

    def make(_service: str, *, config: object) -> Lambda:
        client.config = config
        return client

    monkeypatch.setattr(boto3, "client", make)
    return client


def test_the_response_is_returned_after_one_attempt_with_time_for_a_cold_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = respond(monkeypatch, {"ids": []})

    assert invoke("query", REQUEST) == {"ids": []}
    assert (client.given["FunctionName"], json.loads(client.given["Payload"])) == ("query", REQUEST)
    assert client.config.retries["total_max_attempts"] == 1
    assert client.config.read_timeout == RESPONSE_SECONDS


def test_an_error_that_the_function_returns_is_raised_as_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"kind": "NoSuchCollection", "message": "no collection docs", "next_step": "see status"}
    respond(monkeypatch, {"error": error})

    with pytest.raises(NoSuchCollectionError, match="no collection docs; see status"):
        invoke("query", REQUEST)


def test_an_error_that_the_function_raised_is_raised_as_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"errorType": "NoSnapshotError", "errorMessage": "nothing is published"}
    respond(monkeypatch, error, FunctionError="Unhandled")

    with pytest.raises(NoSnapshotError, match="nothing is published"):
        invoke("query", REQUEST)


def test_a_response_that_is_not_an_object_names_the_function_and_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    respond(monkeypatch, ["ids"])

    with pytest.raises(CompactionError, match=r"other-function returned .*CHROMADB_QUERY_FUNCTION"):
        invoke("other-function", REQUEST)
