"""Reading log events, with responses from botocore's stubber."""

from __future__ import annotations

from datetime import UTC, datetime

import boto3
import pytest
from botocore.stub import Stubber
from mypy_boto3_logs import CloudWatchLogsClient

from chromadb_compaction.aws.logs import log_events

GROUP = "/aws/lambda/chromadb-merge-batch-dev"
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def client() -> CloudWatchLogsClient:
    return boto3.client("logs", region_name="eu-west-1", aws_access_key_id="test", aws_secret_access_key="test")


def test_the_times_of_a_query_are_milliseconds(client: CloudWatchLogsClient) -> None:
    event = {"message": "text", "timestamp": 1_767_225_600_000}
    query = {"logGroupName": GROUP, "startTime": 1_767_225_600_000, "endTime": 1_767_312_000_000}
    with Stubber(client) as stubber:
        stubber.add_response("filter_log_events", {"events": [event]}, query)

        assert log_events(client, GROUP, START, END) == [event]


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException"])
def test_a_group_that_cannot_be_read_has_no_events(client: CloudWatchLogsClient, code: str) -> None:
    with Stubber(client) as stubber:
        stubber.add_client_error("filter_log_events", code)

        assert log_events(client, GROUP, START, END) == []
