from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from chromadb_compaction.aws.account import Account, probe
from chromadb_compaction.errors import ConfigurationError


def failing(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "HeadBucket")


@pytest.mark.parametrize(
    ("error", "outcome", "text"),
    [
        (client_error("AccessDenied"), "denied", "HeadBucket is denied"),
        (client_error("403"), "denied", "HeadBucket is denied"),
        (client_error("404"), "failed", "404: no"),
        (client_error("NoSuchBucket"), "failed", "NoSuchBucket: no"),
        (EndpointConnectionError(endpoint_url="http://x"), "unreachable", "http://x"),
        (ParamValidationError(report="bad name"), "failed", "bad name"),
    ],
)
def test_a_probe_distinguishes_denied_calls_missing_resources_and_broken_connections(
    error: Exception, outcome: str, text: str
) -> None:
    result = probe(failing(error))

    assert result.outcome == outcome
    assert text in result.text


def test_a_call_that_returns_text_is_limited_and_any_other_call_is_ok() -> None:
    assert probe(lambda: "versioning is off") == ("limited", "versioning is off")
    assert probe(lambda: {"Item": {}}).outcome == "ok"


def test_an_endpoint_that_does_not_answer_is_unreachable() -> None:
    session: Any = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")

    class Unreachable(boto3.Session):
        def client(self, name: str, **options: object) -> Any:  # type: ignore[override] # one signature per service
            return session.client(name, endpoint_url="http://127.0.0.1:9", **options)

    fast = Config(connect_timeout=1, retries={"total_max_attempts": 1})
    identity = Account(Unreachable(), fast).identity()

    assert (identity.outcome, identity.endpoint) == ("unreachable", "http://127.0.0.1:9")


def test_a_profile_that_does_not_exist_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(ConfigurationError, match="unset AWS_PROFILE"):
        Account.connect()
