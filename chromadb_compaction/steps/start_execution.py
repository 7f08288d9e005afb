"""StartExecution: what the compactor does when a person or a rule invokes it with an empty event."""

from __future__ import annotations

import logging

from pydantic import Field

from chromadb_compaction.aws import workflow
from chromadb_compaction.messages import Message
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import required

log = logging.getLogger(__name__)


class StartExecutionRequest(Message):
    """There is nothing to choose: the execution finds out by itself what is pending."""


class StartedExecution(Message):
    """Spelt as the Step Functions API spells it."""

    execution_arn: str = Field(alias="executionArn")


def start_execution(_request: StartExecutionRequest, services: Services) -> StartedExecution:
    """Start one execution. If another one holds the lock, it ends at once and says so."""
    state_machine = required(services.settings.state_machine_arn, "STATE_MACHINE_ARN")
    started = StartedExecution(execution_arn=workflow.start(state_machine))
    log.info("started %s", started.execution_arn)
    return started
