"""The lock as an operator sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.cli.common.exits import NothingFoundError
from chromadb_compaction.cli.executions.client import describe
from chromadb_compaction.layout import execution_name
from chromadb_compaction.ports import Services
from chromadb_compaction.times import Moment

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

_CONSOLES = {"aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com"}


class HeldLock(BaseModel):
    """A lock that has an owner.

    The owner is an execution's ARN, or the name of a command (clients.operator_name). `status` is the execution's, or
    None if Step Functions knows no such execution. `console` is the execution's page in the AWS console.
    """

    model_config = ConfigDict(frozen=True)

    lock_id: str
    owner: str
    execution: str
    status: str | None
    acquired_at: Moment
    heartbeat_at: Moment
    expires_at: Moment
    expired: bool
    console: str | None

    @property
    def is_running(self) -> bool:
        """Return whether the owner still runs. A command counts as running until its lock expires."""
        return not self.expired if self.is_command else self.status == "RUNNING"

    @property
    def is_command(self) -> bool:
        """Return whether the owner is a command rather than an execution."""
        return not self.owner.startswith("arn:")

    @property
    def owner_and_status(self) -> str:
        """The owner's name, and its status in parentheses."""
        unknown = "a command of an operator" if self.is_command else "an execution that Step Functions does not know"
        return f"{self.execution} ({self.status or unknown})"


def read_lock(services: Services, step_functions: SFNClient) -> HeldLock | None:
    """Return the lock and its owner's status, or None if the lock is free."""
    lease = services.leases.read(services.settings.lock_id)
    if lease is None:
        return None
    return HeldLock(
        lock_id=lease.lock_id,
        owner=lease.owner,
        execution=execution_name(lease.owner),
        status=_status(step_functions, lease.owner),
        acquired_at=lease.acquired_at,
        heartbeat_at=lease.heartbeat_at,
        expires_at=lease.expires_at,
        expired=lease.is_expired(services.clock()),
        console=console_link(lease.owner, step_functions.meta.endpoint_url),
    )


def console_link(execution: str, endpoint: str) -> str | None:
    """Return the AWS console's page of an execution (its ARN), or None if `endpoint` does not belong to AWS."""
    host = urlsplit(endpoint).hostname or ""
    parts = execution.split(":")
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws")) or len(parts) < 8 or parts[0] != "arn":
        return None
    partition, region = parts[1], parts[3]
    console = _CONSOLES.get(partition, f"{region}.console.aws.amazon.com")
    return f"https://{console}/states/home?region={region}#/v2/executions/details/{execution}"


def _status(step_functions: SFNClient, owner: str) -> str | None:
    if not owner.startswith("arn:"):
        return None
    try:
        return describe(step_functions, owner).status
    except NothingFoundError:
        return None
