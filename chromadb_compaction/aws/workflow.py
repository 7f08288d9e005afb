"""Step Functions calls: start an execution, and read executions and their history."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import boto3

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.aws.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.type_defs import (
        DescribeExecutionOutputTypeDef,
        ExecutionListItemTypeDef,
        HistoryEventTypeDef,
    )


def step_functions() -> SFNClient:
    """Return a Step Functions client. AWS_ENDPOINT_URL_SFN selects another engine for it alone."""
    return boto3.client("stepfunctions", config=client_config())


def start(state_machine: str, client: SFNClient | None = None, *, merges_all: bool = False) -> str:
    """Start an execution and return its ARN.

    Args:
        state_machine: The state machine's ARN.
        client: A Step Functions client. By default a new one.
        merges_all: Merge the collections too that are not due yet.

    Raises:
        ConfigurationError: The state machine does not exist.
    """
    client = client or step_functions()
    with translated(f"starting {state_machine}"):
        # With a name, a request that is sent again after a lost response starts no second execution.
        started = client.start_execution(
            stateMachineArn=state_machine, name=str(uuid.uuid4()), input=json.dumps({"all": True} if merges_all else {})
        )
        return started["executionArn"]


def list_executions(client: SFNClient, state_machine: str, count: int) -> list[ExecutionListItemTypeDef]:
    """Return up to `count` of the latest executions, as Step Functions orders them."""
    with translated(f"listing executions of {state_machine}"):
        return client.list_executions(stateMachineArn=state_machine, maxResults=count)["executions"]


def describe(client: SFNClient, execution: str) -> DescribeExecutionOutputTypeDef | None:
    """Return the execution's description, or None if no execution has that ARN."""
    with translated(f"describing {execution}"):
        try:
            return client.describe_execution(executionArn=execution)
        except (client.exceptions.ExecutionDoesNotExist, client.exceptions.InvalidArn):
            return None


def history(client: SFNClient, execution: str) -> list[HistoryEventTypeDef]:
    """Return every event of the execution so far, oldest first."""
    pages = client.get_paginator("get_execution_history").paginate(executionArn=execution)
    with translated(f"reading the history of {execution}"):
        return [event for page in pages for event in page["events"]]
