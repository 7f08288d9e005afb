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
    """A lock that has an owner: the ARN of an execution, or the name of a command (clients.operator_name).

    Attributes:
        status: The status of the execution. None if Step Functions does not know it, or was not asked.
        console: The page of the execution in the AWS console. None outside AWS, or if Step Functions was not asked.
    """

    model_config = ConfigDict(frozen=True)

    lock_id: str
    owner: str
    execution: str
    acquired_at: Moment
    heartbeat_at: Moment
    expires_at: Moment
    expired: bool
    held_seconds: float
    since_heartbeat_seconds: float
    expires_in_seconds: float
    status: str | None = None
    console: str | None = None

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


def read_lock(services: Services, step_functions: SFNClient | None = None) -> HeldLock | None:
    """Return the lock, or None if it is free. `step_functions` is asked for the owner's status."""
    lease, now = services.leases.read(services.settings.lock_id), services.clock()
    if lease is None:
        return None
    return HeldLock(
        lock_id=lease.lock_id,
        owner=lease.owner,
        execution=execution_name(lease.owner),
        acquired_at=lease.acquired_at,
        heartbeat_at=lease.heartbeat_at,
        expires_at=lease.expires_at,
        expired=lease.is_expired(now),
        held_seconds=max(now - lease.acquired_at, 0),
        since_heartbeat_seconds=max(now - lease.heartbeat_at, 0),
        expires_in_seconds=max(lease.expires_at - now, 0),
        status=_status(step_functions, lease.owner) if step_functions else None,
        console=console_link(lease.owner, step_functions.meta.endpoint_url) if step_functions else None,
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
