"""Starting executions of the state machine."""

from __future__ import annotations

import boto3

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.aws.errors import translated
from chromadb_compaction.errors import ConfigurationError


def start(state_machine: str) -> str:
    """Start an execution and return its ARN. AWS_ENDPOINT_URL_SFN alone decides which engine runs it."""
    client = boto3.client("stepfunctions", config=client_config())
    with translated(f"starting {state_machine}", {"StateMachineDoesNotExist": ConfigurationError}):
        return client.start_execution(stateMachineArn=state_machine)["executionArn"]
