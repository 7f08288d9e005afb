"""`deltas`: the pending and the quarantined deltas, and moving deltas between the two."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from chromadb_compaction.cli.common.completion import complete_collection
from chromadb_compaction.cli.common.console import warn
from chromadb_compaction.cli.common.exits import ExitCode
from chromadb_compaction.cli.common.formatting import counted, duration, local_time, one_line, size, some
from chromadb_compaction.cli.common.options import DryRun, JsonFlag
from chromadb_compaction.cli.common.output import output_for
from chromadb_compaction.cli.common.tables import Column, Listing
from chromadb_compaction.errors import InvalidRequestError

if TYPE_CHECKING:
    from chromadb_compaction.cli.views.deltas import PendingDelta
    from chromadb_compaction.operations.discard import Discarded
    from chromadb_compaction.operations.quarantine import Moved, QuarantinedDelta

app = typer.Typer(
    name="deltas",
    help="See what is pending and what is quarantined. Example: chromadb-compaction deltas quarantined",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

NAMES_HELP = "UUIDs or keys, or their beginnings, or `latest`."
Names = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help=NAMES_HELP, show_default=False)]
OneCollection = Annotated[
    str | None,
    typer.Option(
        "--collection", "-c", metavar="NAME", help="Only deltas of this collection.", autocompletion=complete_collection
    ),
]
Everything = Annotated[bool, typer.Option("--all", help="Every delta, or with -c every delta of that collection.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="The most to show; --json shows all.")]


@app.command("list")
def list_deltas(*, collection: OneCollection = None, limit: Limit = 50, as_json: JsonFlag = False) -> None:
    """List the pending deltas, the oldest first.

    Example: `chromadb-compaction deltas list -c docs`
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.deltas import pending_deltas

    pending = pending_deltas(clients.services(), collection)
    output_for(as_json=as_json).show(pending, lambda deltas: _render_pending(deltas, limit))


@app.command()
def quarantined(*, collection: OneCollection = None, limit: Limit = 50, as_json: JsonFlag = False) -> None:
    """List the quarantined deltas, the latest first, each with the reason.

    Example: `chromadb-compaction deltas quarantined --json`
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.layout import delta_key
    from chromadb_compaction.operations.quarantine import list_quarantined

    services = clients.services()
    prefix = delta_key(collection, "", "", prefix=services.settings.delta_prefix) if collection else ""
    found = [each for each in list_quarantined(services) if each.delta.startswith(prefix)]
    output_for(as_json=as_json).show(found, lambda deltas: _render_quarantined(deltas, limit))


@app.command()
def requeue(
    ids: Names = None,
    *,
    everything: Everything = False,
    collection: OneCollection = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Make quarantined deltas pending again, once the cause is fixed.

    A delta whose name is not a UUIDv7 can never be merged, and stays: write its content under a new name.

    Example: `chromadb-compaction deltas requeue --all -c docs --dry-run`

    Exit codes: 0 done, 2 that delta can never be merged, 3 an execution holds the lock, 4 there is no such delta.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.operations import quarantine as operations

    selection = operations.Selection(ids or [], everything=everything, collection=collection)
    operator = clients.operator_name()
    moved = operations.requeue(clients.services(), selection, operator=operator, dry_run=dry_run)
    _show_moved(moved, "pending again", as_json=as_json)


@app.command()
def quarantine(
    ids: Names = None,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Stored beside the delta.")],
    everything: Everything = False,
    collection: OneCollection = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Put pending deltas into quarantine before they are merged, for example after a rollback with --replay.

    Example: `chromadb-compaction deltas quarantine 0190e5c0-... --reason "written by the broken importer"`

    Exit codes: 0 done, 3 an execution holds the lock, 4 there is no such delta.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.operations import quarantine as operations

    selection = operations.Selection(ids or [], everything=everything, collection=collection)
    operator = clients.operator_name()
    moved = operations.quarantine(clients.services(), selection, reason=reason, operator=operator, dry_run=dry_run)
    _show_moved(moved, "in quarantine", as_json=as_json)


@app.command()
def discard(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help=NAMES_HELP, show_default=False)],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete quarantined deltas with their reasons, and objects under delta/ that are not deltas.

    The bucket keeps their versions until those expire. A delta that is pending is never discarded.

    Example: `chromadb-compaction deltas discard 0190e5c0-... --dry-run`

    Exit codes: 0 done, 2 that delta is pending, 3 an execution holds the lock, 4 there is no such object.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.operations import discard as operations

    services, operator = clients.services(), clients.operator_name()
    if not yes and not dry_run:
        planned = operations.discard(services, ids, operator=operator, dry_run=True)
        if not sys.stdin.isatty():
            raise InvalidRequestError(
                f"this deletes {counted(len(planned.discarded), 'object')}", next_step="to do it, add --yes"
            )
        typer.confirm("\n".join([*planned.discarded, "Delete?"]), abort=True, err=True)
    done = operations.discard(services, ids, operator=operator, dry_run=dry_run)
    output_for(as_json=as_json).show(done, _render_discarded)
    for key in done.written_again:
        warn(f"not discarded: {key} was written again meanwhile")


def _render_discarded(done: Discarded) -> Iterator[RenderableType]:
    verb = "Would discard" if done.dry_run else "Discarded"
    yield f"{verb} {counted(len(done.discarded), 'object')}; the bucket keeps the versions."
    yield from map(Text, some(done.discarded))


def _show_moved(moved: Moved, state: str, *, as_json: bool) -> None:
    output_for(as_json=as_json).show(moved, lambda _: _render_moved(moved, state))
    for key, reason in moved.refused.items():
        warn(f"not moved: {key}: {reason}")
    if not moved.moved:
        raise typer.Exit(ExitCode.NOTHING_FOUND)


def _render_moved(moved: Moved, state: str) -> Iterator[RenderableType]:
    verb = "would be" if moved.dry_run else "is" if len(moved.moved) == 1 else "are"
    yield f"{counted(len(moved.moved), 'delta')} {verb} {state}."
    yield from map(Text, some(moved.moved))


def _render_quarantined(deltas: list[QuarantinedDelta], limit: int) -> Iterator[RenderableType]:
    if not deltas:
        yield "The quarantine is empty."
        return
    for each in deltas[:limit]:
        yield Text.assemble((each.delta, "bold"), f"  {size(each.bytes)}, {local_time(each.at)}")
        yield Text(f"  {one_line(each.reason or 'no reason is stored beside it', 400)}")
    yield from _render_rest(len(deltas) - limit)
    yield "Once the cause is fixed: [bold]chromadb-compaction deltas requeue ID[/]"


def _render_pending(pending: list[PendingDelta], limit: int) -> Iterator[RenderableType]:
    if not pending:
        yield "Nothing is pending."
        return
    table = Listing(
        Column("collection"),
        Column("delta", "id"),
        Column("written", "fixed", drop=1),
        Column("size", "number"),
        Column("pending for", "number"),
    )
    for each in pending[:limit]:
        written = "its name is not a UUIDv7" if each.written_at is None else local_time(each.written_at)
        table.add_row(Text(each.collection), Text(each.id), written, size(each.bytes), duration(each.age_seconds))
    yield table
    yield from _render_rest(len(pending) - limit)
    yield f"{counted(len(pending), 'delta')}, {size(sum(each.bytes for each in pending))}"


def _render_rest(left: int) -> Iterator[str]:
    if left > 0:
        yield f"and {left:,} more: --limit or --json shows them"
