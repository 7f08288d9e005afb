"""The clients of the services around the workflow: Step Functions and CloudWatch Logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3

from chromadb_compaction.aws.clients import client_config

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_stepfunctions import SFNClient


def step_functions() -> SFNClient:
    """Return the Step Functions client. AWS_ENDPOINT_URL_SFN selects another engine for it alone."""
    return boto3.client("stepfunctions", config=client_config())


def logs() -> CloudWatchLogsClient:
    """Return the CloudWatch Logs client."""
    return boto3.client("logs", config=client_config())
