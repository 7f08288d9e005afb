"""StartExecution: the compactor's task for an empty event, which an operator or a rule sends."""

from __future__ import annotations

import logging

from pydantic import Field

from chromadb_compaction.aws import workflow
from chromadb_compaction.messages import Message
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import required

log = logging.getLogger(__name__)


class StartExecutionRequest(Message):
    """An empty request: the execution finds the pending deltas itself."""


class StartedExecution(Message):
    """The ARN of the started execution, in the JSON field name of the Step Functions API."""

    execution_arn: str = Field(alias="executionArn")


def start_execution(_request: StartExecutionRequest, services: Services) -> StartedExecution:
    """Start one execution. It ends at once, naming the holder, if another execution holds the lock."""
    state_machine = required(services.settings.state_machine_arn, "STATE_MACHINE_ARN")
    started = StartedExecution(execution_arn=workflow.start(state_machine))
    log.info("started %s", started.execution_arn)
    return started
