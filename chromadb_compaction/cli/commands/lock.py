"""`lock show`, `lock release`: who holds the lock, and the way back when nobody will give it up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from pydantic import BaseModel, ConfigDict
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.console import JsonFlag, note, out, print_json
from chromadb_compaction.cli.common.exits import NothingFoundError
from chromadb_compaction.cli.common.formatting import ago, duration
from chromadb_compaction.errors import LockHeldError
from chromadb_compaction.layout import execution_name

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from chromadb_compaction.lease import Lease
    from chromadb_compaction.ports import Services

app = typer.Typer(help="See who holds the compaction lock, and release one left behind.", no_args_is_help=True)

RUNNING = "RUNNING"
RISK = (
    "its owner will stop at its next heartbeat without publishing, and the work since its last pass is wasted; what is"
    " published is safe"
)
"""What --force does to an owner that runs: the pointer saves the data, the lock only work."""

_CONSOLES = {"aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com"}


class HeldLock(BaseModel):
    """The lock as it is held. `status` is the owning execution's, None when Step Functions knows none such.

    An owner that is no execution is a command that somebody typed (operator.operator_name).
    """

    model_config = ConfigDict(frozen=True)

    lock_id: str
    owner: str
    execution: str
    status: str | None
    acquired_at: datetime
    heartbeat_at: datetime
    expires_at: datetime
    expired: bool
    console: str | None

    @property
    def runs(self) -> bool:
        """Whether its owner still runs: of somebody's command nobody can tell until the lock expires."""
        return not self.expired if self.by_hand else self.status == RUNNING

    @property
    def by_hand(self) -> bool:
        """Whether the owner is a command and no execution."""
        return not self.owner.startswith("arn:")

    @property
    def owner_in_words(self) -> str:
        """The owner and how it fares."""
        unknown = "a command that somebody typed" if self.by_hand else "no execution that Step Functions knows"
        return f"{self.execution} ({self.status or unknown})"


@app.command()
def show(*, as_json: JsonFlag = False) -> None:
    """Show who holds the lock, since when and until when, and whether that execution still runs.

    Example: `chromadb-compaction lock show`
    """
    from chromadb_compaction.cli.common import clients

    known = clients.services()
    lock_id, held = known.settings.lock_id, look(known, clients.step_functions())
    if as_json:
        print_json({"lock_id": lock_id, "held": held is not None, **(held.model_dump(mode="json") if held else {})})
    elif held is None:
        out.print(Text.assemble(f"Lock {lock_id} is ", ("free", "green"), "."))
    else:
        out.print(_screen(held, known.clock()))


@app.command()
def release(
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Release it even while its execution runs, which then stops.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Release the lock that an execution left behind; refuse while that execution runs.

    Exit codes: 0 released (or free already), 3 its execution runs, or somebody else has taken it meanwhile.

    Example: `chromadb-compaction lock release --dry-run`
    """
    from chromadb_compaction.cli.common import clients

    known = clients.services()
    held = look(known, clients.step_functions())
    if held is not None and held.runs and not force:
        raise LockHeldError(f"lock {held.lock_id} is held by {_wait_for(held)}; or add --force: {RISK}")
    released = held is not None and not dry_run and _let_go(known, held)
    if as_json:
        print_json(
            {"released": released, "dry_run": dry_run, "held": held and held.model_dump(mode="json")},
        )
    else:
        _report(known.settings.lock_id, held, released=released, dry_run=dry_run)


def look(known: Services, client: SFNClient) -> HeldLock | None:
    """Return the lock as it is held, or None when it is free."""
    lease = known.leases.read(known.settings.lock_id)
    if lease is None:
        return None
    return HeldLock(
        lock_id=lease.lock_id,
        owner=lease.owner,
        execution=execution_name(lease.owner),
        status=_status(client, lease),
        acquired_at=datetime.fromtimestamp(lease.acquired_at, UTC),
        heartbeat_at=datetime.fromtimestamp(lease.heartbeat_at, UTC),
        expires_at=datetime.fromtimestamp(lease.expires_at, UTC),
        expired=lease.is_expired(known.clock()),
        console=console_link(lease.owner, client.meta.endpoint_url),
    )


def console_link(execution: str, endpoint: str) -> str | None:
    """Return where the AWS console shows `execution` (its ARN); None when it is not AWS that answers at `endpoint`."""
    host = urlsplit(endpoint).hostname or ""
    parts = execution.split(":")
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws")) or len(parts) < 8 or parts[0] != "arn":
        return None
    partition, region = parts[1], parts[3]
    console = _CONSOLES.get(partition, f"{region}.console.aws.amazon.com")
    return f"https://{console}/states/home?region={region}#/v2/executions/details/{execution}"


def _status(client: SFNClient, lease: Lease) -> str | None:
    from chromadb_compaction.cli.executions.client import describe

    if not lease.owner.startswith("arn:"):
        return None
    try:
        return describe(client, lease.owner).status
    except NothingFoundError:
        return None


def _wait_for(held: HeldLock) -> str:
    if held.by_hand:
        until = held.expires_at.isoformat().replace("+00:00", "Z")
        return f"{held.execution}, a command that may still run; wait until it expires at {until}"
    return f"{held.execution}, which is RUNNING; wait for it, see: chromadb-compaction history {held.execution}"


def _let_go(known: Services, held: HeldLock) -> bool:
    """Release the lock if it is still the one that was looked at. Raises LockHeldError naming who has it instead."""
    if known.leases.release(held.lock_id, held.owner):
        return True
    now = known.leases.read(held.lock_id)
    if now is None:
        return False
    raise LockHeldError(
        f"lock {held.lock_id} has passed from {held.execution} to {execution_name(now.owner)} meanwhile, and was left"
        " alone; see: chromadb-compaction lock show"
    )


def _report(lock_id: str, held: HeldLock | None, *, released: bool, dry_run: bool) -> None:
    if held is None:
        out.print(f"Lock {lock_id} is free; there was nothing to release.")
        return
    if not dry_run and not released:
        out.print(f"Lock {lock_id} was released by its owner meanwhile.")
        return
    out.print(Text(f"{'Would release' if dry_run else 'Released'} lock {lock_id} of {held.owner_in_words}."))
    if held.runs:
        note(f"Mind: {RISK}.")


def _screen(held: HeldLock, now: float) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("Lock", held.lock_id)
    grid.add_row("Execution", Text(held.owner_in_words, style="cyan" if held.runs else "yellow"))
    grid.add_row("Owner", held.owner)
    grid.add_row("Since", _moment(held.acquired_at, now))
    grid.add_row("Renewed", _moment(held.heartbeat_at, now))
    grid.add_row("Until", _moment(held.expires_at, now))
    if held.console:
        grid.add_row("Console", held.console)
    grid.add_row("Next", _next(held))
    return grid


def _moment(moment: datetime, now: float) -> str:
    left = moment.timestamp() - now
    distance = f"{duration(left)} left" if left > 0 else ago(-left)
    return f"{moment.isoformat().replace('+00:00', 'Z')}, {distance}"


def _next(held: HeldLock) -> Text:
    if held.expired and not held.runs:
        return Text("nothing: the next execution takes it")
    if held.by_hand:
        return Text("wait for that command to end, or for the lock to expire")
    if held.runs:
        return Text(f"wait, or follow it: chromadb-compaction history {held.execution}")
    return Text("release it: chromadb-compaction lock release")
