"""CloudWatch Logs calls."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from chromadb_compaction.aws.clients import client_config

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import FilteredLogEventTypeDef

MAX_EVENTS = 5000


def cloudwatch_logs() -> CloudWatchLogsClient:
    """Return a CloudWatch Logs client."""
    return boto3.client("logs", config=client_config())


def log_events(
    client: CloudWatchLogsClient, group: str, start: datetime, end: datetime
) -> list[FilteredLogEventTypeDef]:
    """Return at most MAX_EVENTS log events of a group.

    Return none if the group cannot be read: a failed execution can be reported without its log.
    """
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=group,
        startTime=int(start.timestamp() * 1000),
        endTime=int(end.timestamp() * 1000),
        PaginationConfig={"MaxItems": MAX_EVENTS},
    )
    try:
        return [event for page in pages for event in page["events"]]
    except (BotoCoreError, ClientError):
        return []
