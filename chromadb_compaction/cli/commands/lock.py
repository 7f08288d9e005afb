"""`lock show` and `lock release`: who holds the lock, and how to release a lock that was left behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from chromadb_compaction.cli.common.console import warn
from chromadb_compaction.cli.common.formatting import local_time, until, when
from chromadb_compaction.cli.common.options import DryRun, JsonFlag
from chromadb_compaction.cli.common.output import output_for
from chromadb_compaction.cli.common.tables import facts
from chromadb_compaction.errors import LockHeldError, MalformedLockError
from chromadb_compaction.layout import execution_name

if TYPE_CHECKING:
    from chromadb_compaction.cli.views.lock import HeldLock
    from chromadb_compaction.ports import Services

app = typer.Typer(help="See who holds the compaction lock, and release one left behind.", no_args_is_help=True)

RISK = (
    "its owner will stop at its next heartbeat, and the work that it has not published by then is lost; what is"
    " published is safe"
)
"""The effect of --force on an owner that runs."""


@app.command()
def show(*, as_json: JsonFlag = False) -> None:
    """Show who holds the lock, since when and until when, and whether that execution still runs.

    Example: `chromadb-compaction lock show`
    """
    from chromadb_compaction.aws import workflow
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.lock import read_lock

    services = clients.services()
    lock_id, held = services.settings.lock_id, read_lock(services, workflow.step_functions())
    value = {"lock_id": lock_id, "held": held is not None, **(held.model_dump(mode="json") if held else {})}
    output_for(as_json=as_json).show(value, lambda _: _render(lock_id, held, services.clock()))


@app.command()
def release(
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Release it even while its execution runs, which then stops.")
    ] = False,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Release the lock that an execution left behind. A lock whose execution runs is kept.

    With --force, also delete a lock item that is not a lease, if it is still what was read.

    Exit codes: 0 released (or free already), 3 its execution runs, or the lock has another owner by now.

    Example: `chromadb-compaction lock release --dry-run`
    """
    from chromadb_compaction.aws import workflow
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.lock import read_lock

    services = clients.services()
    lock_id = services.settings.lock_id
    try:
        held = read_lock(services, workflow.step_functions())
    except MalformedLockError as error:
        if not force:
            raise
        deleted = not dry_run and services.leases.delete_malformed(lock_id)
        value = {"released": deleted, "dry_run": dry_run, "held": None, "malformed": error.message}
        output_for(as_json=as_json).show(value, lambda _: _render_malformed(lock_id, deleted=deleted, dry_run=dry_run))
        return
    if held is not None and held.is_running and not force:
        raise LockHeldError(
            f"lock {lock_id} is held by {held.owner_and_status}",
            next_step=f"{_how_to_wait(held)}; or add --force: {RISK}",
            holder=held.owner,
            since=held.acquired_at,
            until=held.expires_at,
        )
    released = held is not None and not dry_run and _release(services, held)
    output_for(as_json=as_json).show(
        {"released": released, "dry_run": dry_run, "held": held},
        lambda _: _render_release(lock_id, held, released=released, dry_run=dry_run),
    )
    if held is not None and held.is_running and (released or dry_run):
        warn(RISK)


def _how_to_wait(held: HeldLock) -> str:
    if held.is_command:
        return f"wait until it expires at {local_time(held.expires_at)}"
    return f"wait for it: chromadb-compaction history {held.execution} --follow"


def _release(services: Services, held: HeldLock) -> bool:
    """Release the lock if `held` still owns it, and return whether it did. Raises LockHeldError if another does."""
    if services.leases.release(held.lock_id, held.owner):
        return True
    now = services.leases.read(held.lock_id)
    if now is None:
        return False
    raise LockHeldError(
        f"lock {held.lock_id} passed from {held.execution} to {execution_name(now.owner)} meanwhile, and was not"
        " released",
        next_step="see who holds it now: chromadb-compaction lock show",
        holder=now.owner,
        since=now.acquired_at,
        until=now.expires_at,
    )


def _render_malformed(lock_id: str, *, deleted: bool, dry_run: bool) -> Iterator[Text]:
    if deleted or dry_run:
        yield Text(f"{'Would delete' if dry_run else 'Deleted'} the item LOCK#{lock_id}, which is not a lease.")
    else:
        yield Text(f"The item LOCK#{lock_id} was changed or deleted meanwhile, so it was not deleted.")


def _render_release(lock_id: str, held: HeldLock | None, *, released: bool, dry_run: bool) -> Iterator[Text]:
    if held is None:
        yield Text(f"Lock {lock_id} is free; there was nothing to release.")
    elif released or dry_run:
        yield Text(f"{'Would release' if dry_run else 'Released'} lock {lock_id} of {held.owner_and_status}.")
    else:
        yield Text(f"Lock {lock_id} was released by its owner meanwhile.")


def _render(lock_id: str, held: HeldLock | None, now: float) -> Iterator[RenderableType]:
    if held is None:
        yield Text.assemble(f"Lock {lock_id} is ", ("free", "green"), ".")
        return
    rows: list[tuple[str, RenderableType]] = [
        ("Lock", lock_id),
        ("Execution", Text(held.owner_and_status, style="cyan" if held.is_running else "yellow")),
        ("Owner", held.owner),
        ("Since", when(held.acquired_at, now)),
        ("Renewed", when(held.heartbeat_at, now)),
        ("Until", until(held.expires_at, now)),
    ]
    if held.console:
        rows.append(("Console", held.console))
    yield facts(*rows, ("Next", Text(_next_step(held))))


def _next_step(held: HeldLock) -> str:
    if held.expired and not held.is_running:
        return "nothing: the next execution takes it"
    if held.is_command:
        return "wait until that command ends, or until the lock expires"
    if held.is_running:
        return f"wait, or follow it: chromadb-compaction history {held.execution} --follow"
    return "release it: chromadb-compaction lock release"
