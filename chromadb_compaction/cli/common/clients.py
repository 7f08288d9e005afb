"""The settings and AWS clients of a command. AWS_ENDPOINT_URL decides whether AWS or the local stack answers."""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from chromadb_compaction.aws.clients import client_config, connect
from chromadb_compaction.errors import ConfigurationError
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import Settings, load_settings

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

FUNCTION_SECONDS = 300
"""How long to wait for a function's answer: a cold query function downloads its snapshot first."""


def settings() -> Settings:
    """Return the settings. Raises ConfigurationError that says how to get them, when there are none at all."""
    if not os.environ.get("CHROMADB_BUCKET"):
        raise ConfigurationError(
            'CHROMADB_BUCKET is not set; for the local stack type: eval "$(chromadb-compaction local env)",'
            ' for AWS: set -a; eval "$(pulumi stack output --shell)"; set +a'
        )
    return load_settings()


def services() -> Services:
    """Return what the domain's functions work with."""
    return connect(settings())


def step_functions() -> SFNClient:
    """Return the Step Functions client; AWS_ENDPOINT_URL_SFN alone can point it at another engine."""
    return boto3.client("stepfunctions", config=client_config())


def functions() -> LambdaClient:
    """Return the Lambda client. It never repeats an invocation by itself."""
    patient = Config(read_timeout=FUNCTION_SECONDS, retries={"mode": "standard", "total_max_attempts": 1})
    return boto3.client("lambda", config=client_config().merge(patient))


def queues() -> SQSClient:
    """Return the SQS client."""
    return boto3.client("sqs", config=client_config())


def logs() -> CloudWatchLogsClient:
    """Return the CloudWatch Logs client."""
    return boto3.client("logs", config=client_config())


def operator_name() -> str:
    """Return e.g. operator:ada@laptop/5b0c...: of this command alone, so that a second one does not share its lock."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"operator:{user}@{socket.gethostname()}/{uuid.uuid4()}"
