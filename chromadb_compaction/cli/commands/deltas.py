"""`deltas`: what is pending, what was refused and why, and the way from one to the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.console import JsonFlag, note, out, print_json
from chromadb_compaction.cli.common.exits import ExitCode
from chromadb_compaction.cli.common.formatting import counted, duration, one_line, size

if TYPE_CHECKING:
    from chromadb_compaction.cli.views.deltas import PendingDelta
    from chromadb_compaction.operations.quarantine import Moved

app = typer.Typer(
    name="deltas",
    help="See what is pending and what was refused. Example: chromadb-compaction deltas quarantined",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Names = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="UUIDs or whole keys.", show_default=False)]
OneCollection = Annotated[
    str | None, typer.Option("--collection", "-c", metavar="NAME", help="Only this collection's.")
]
Everything = Annotated[bool, typer.Option("--all", help="All there are, of one collection if -c names it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Show at most so many; --json shows all.")]


@app.command("list")
def list_deltas(*, collection: OneCollection = None, limit: Limit = 50, as_json: JsonFlag = False) -> None:
    """List the pending deltas, the oldest first.

    Example: `chromadb-compaction deltas list -c docs`
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.deltas import pending_deltas

    pending = pending_deltas(clients.services(), collection)
    if as_json:
        print_json([each.model_dump(mode="json") for each in pending])
    elif not pending:
        out.print("Nothing is pending.")
    else:
        _print_pending(pending, limit)


@app.command()
def quarantined(*, collection: OneCollection = None, limit: Limit = 50, as_json: JsonFlag = False) -> None:
    """List the refused deltas, the latest first, each with the reason.

    Example: `chromadb-compaction deltas quarantined --json`
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.snapshots import moment
    from chromadb_compaction.layout import delta_key
    from chromadb_compaction.operations.quarantine import list_quarantined

    services = clients.services()
    inside = delta_key(collection, "", "", prefix=services.settings.delta_prefix) if collection else ""
    found = [each for each in list_quarantined(services) if each.delta.startswith(inside)]
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
        return
    if not found:
        out.print("The quarantine is empty.")
        return
    for each in found[:limit]:
        out.print(Text.assemble((each.delta, "bold"), f"  {size(each.bytes)}, {moment(each.at)}"), soft_wrap=True)
        out.print(Text(f"  {one_line(each.reason or 'no reason was left beside it', 400)}"), soft_wrap=True)
    _print_rest(len(found) - limit)
    out.print("Once the cause is mended: [bold]chromadb-compaction deltas requeue ID[/]")


@app.command()
def requeue(
    ids: Names = None,
    *,
    everything: Everything = False,
    collection: OneCollection = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Make refused deltas pending again, once the cause is mended.

    A delta whose name is no UUIDv7 can never be merged, and stays: write its content under a fresh name.

    Example: `chromadb-compaction deltas requeue --all -c docs --dry-run`

    Exit codes: 0 done, 2 refused, 3 an execution holds the lock, 4 there is no such delta.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.common.clients import operator_name
    from chromadb_compaction.operations import quarantine as refused

    selection = refused.Selection(ids or [], everything=everything, collection=collection)
    moved = refused.requeue(clients.services(), selection, operator=operator_name(), dry_run=dry_run)
    _report(moved, "pending again", as_json=as_json)


@app.command()
def quarantine(
    ids: Names = None,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Kept beside the delta, for whoever finds it.")],
    everything: Everything = False,
    collection: OneCollection = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Put pending deltas into quarantine before they are merged, say after a rollback with --replay.

    Example: `chromadb-compaction deltas quarantine 0190e5c0-... --reason "written by the broken importer"`

    Exit codes: 0 done, 3 an execution holds the lock, 4 there is no such delta.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.common.clients import operator_name
    from chromadb_compaction.operations import quarantine as refused

    selection = refused.Selection(ids or [], everything=everything, collection=collection)
    moved = refused.quarantine(clients.services(), selection, reason=reason, operator=operator_name(), dry_run=dry_run)
    _report(moved, "in quarantine", as_json=as_json)


def _report(moved: Moved, where: str, *, as_json: bool) -> None:
    from chromadb_compaction.cli.views.snapshots import print_some

    if as_json:
        print_json(moved.model_dump(mode="json"))
    else:
        verb = "would be" if moved.dry_run else "is" if len(moved.moved) == 1 else "are"
        out.print(f"{counted(len(moved.moved), 'delta')} {verb} {where}.")
        print_some(moved.moved)
        for key, why_not in moved.refused.items():
            note(f"left alone: {key}: {why_not}")
    if not moved.moved:
        raise typer.Exit(ExitCode.NOTHING_FOUND)


def _print_pending(pending: list[PendingDelta], limit: int) -> None:
    from chromadb_compaction.cli.views.snapshots import moment

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("collection", overflow="fold")
    table.add_column("delta", overflow="fold")
    table.add_column("written", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("pending for", justify="right", no_wrap=True)
    for each in pending[:limit]:
        written = "its name is no UUIDv7" if each.written_at is None else moment(each.written_at)
        table.add_row(Text(each.collection), Text(each.id), written, size(each.bytes), duration(each.age_seconds))
    out.print(table)
    _print_rest(len(pending) - limit)
    out.print(f"{counted(len(pending), 'delta')}, {size(sum(each.bytes for each in pending))}")


def _print_rest(left: int) -> None:
    if left > 0:
        out.print(f"and {left:,} more: --limit or --json shows them")
