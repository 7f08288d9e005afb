"""`status`: the state of the whole system on one screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from chromadb_compaction.cli.common.exits import ExitCode
from chromadb_compaction.cli.common.formatting import ago, counted, duration, local_time, one_line, size
from chromadb_compaction.cli.common.many import summarised
from chromadb_compaction.cli.common.options import JsonFlag
from chromadb_compaction.cli.common.output import output_for
from chromadb_compaction.cli.common.tables import Column, Listing, facts

if TYPE_CHECKING:
    from chromadb_compaction.cli.views.overview import (
        Overview,
        PendingView,
        QuarantineView,
        QueueView,
    )

STATUS_STYLES = {
    "SUCCEEDED": "green",
    "RUNNING": "cyan",
    "FAILED": "bold red",
    "TIMED_OUT": "bold red",
    "ABORTED": "yellow",
}


def status(
    *,
    watching: Annotated[bool, typer.Option("--watch", help="Read it again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.5, metavar="SECONDS", help="Seconds between readings of --watch.")] = 2,
    as_json: JsonFlag = False,
) -> None:
    """Show the lock, the published snapshot, pending and quarantined deltas, the queues and the last executions.

    With --watch and --json: one JSON document per line.

    A part that cannot be read shows its error, and the others are shown.

    Exit codes: 0 shown, 1 a part could not be read, 5 shown, and the published snapshot is corrupt, 6 shown, and a
    newer version wrote it.

    Example: `chromadb-compaction status --watch --every 5`
    """
    from chromadb_compaction.aws import workflow
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.overview import read_overview

    output = output_for(as_json=as_json)
    services, step_functions = clients.services(), workflow.step_functions()
    if watching:
        output.watch(lambda: read_overview(services, step_functions), render, every=every)
        return
    overview = read_overview(services, step_functions)
    output.show(overview, render)
    if overview.snapshot_corrupt:
        raise typer.Exit(ExitCode.CORRUPT)
    if overview.snapshot_of_newer_format:
        raise typer.Exit(ExitCode.NEWER_FORMAT)
    if overview.errors:
        raise typer.Exit(ExitCode.FAILED)


def render(overview: Overview) -> Iterator[RenderableType]:
    """Render the overview for a person."""

    def shown(name: str, drawn: Callable[[], RenderableType]) -> RenderableType:
        return Text(f"error: {overview.errors[name]}", style="bold red") if name in overview.errors else drawn()

    yield facts(
        ("Lock", shown("lock", lambda: _lock(overview))),
        ("Snapshot", shown("snapshot", lambda: _snapshot(overview))),
        ("Pending", shown("pending", lambda: _pending(overview.pending))),
        ("Quarantine", shown("quarantine", lambda: _quarantine(overview.quarantine))),
        ("Queue", shown("queue", lambda: _queue(overview.queue))),
        ("Dead letters", shown("dead_letters", lambda: _queue(overview.dead_letters))),
        ("Executions", shown("executions", lambda: _executions(overview))),
    )


def _lock(overview: Overview) -> Text:
    held = overview.lock
    if overview.lock_malformed:
        return Text(f"malformed: {overview.lock_malformed}", style="bold red")
    if held is None:
        return Text("free", style="green")
    if held.expired:
        return Text(f"expired: {held.execution} did not release it; the next execution takes it", "yellow")
    return Text.assemble(
        (f"held by {held.execution}", "cyan"),
        f" for {duration(held.held_seconds)}, renewed {ago(held.since_heartbeat_seconds)},"
        f" {duration(held.expires_in_seconds)} left",
    )


def _snapshot(overview: Overview) -> RenderableType:
    snapshot = overview.snapshot
    if overview.snapshot_corrupt:
        return Text(f"corrupt: {overview.snapshot_corrupt}", style="bold red")
    if overview.snapshot_of_newer_format:
        return Text(overview.snapshot_of_newer_format, style="bold red")
    if snapshot is None:
        return Text("nothing published yet", style="yellow")
    head = Text.assemble(
        (snapshot.snapshot_id, "bold"),
        f", published {ago(snapshot.age_seconds)}: {counted(snapshot.records, 'record')} in"
        f" {counted(len(snapshot.collections), 'collection')}, {size(snapshot.bytes)}",
    )
    lines = summarised(
        snapshot.collections,
        lambda each: (
            each.collection,
            counted(each.records, "record"),
            f"{each.dimension or 'no'} dimensions",
            each.space,
            size(each.bytes),
        ),
        weight=lambda each: each.records,
        order="largest",
    )
    hint = [Text(f"  {snapshot.hint}", style="yellow")] if snapshot.hint else []
    return Group(head, *hint, *lines)


def _pending(pending: PendingView | None) -> RenderableType:
    if pending is None or not pending.deltas or pending.oldest_seconds is None:
        return Text("none", style="green")
    head = Text(
        f"{counted(pending.deltas, 'delta')}, {size(pending.bytes)}, the oldest written {ago(pending.oldest_seconds)}"
    )
    if pending.deferred and pending.deferred_until is not None:
        until = local_time(pending.deferred_until)
        head.append(f"\n{counted(pending.deferred, 'delta')} waiting for more, the first until {until} at the latest")
    if not pending.troubled:
        return head
    title = Text(f"{counted(pending.troubled, 'delta')} could not be merged so far:", style="bold red")
    return Group(head, title, *(Text(f"  {each.delta}: {one_line(each.reason, 500)}") for each in pending.latest))


def _quarantine(quarantine: QuarantineView | None) -> RenderableType:
    if quarantine is None or not quarantine.deltas:
        return Text("empty", style="green")
    head = Text(counted(quarantine.deltas, "delta"), style="yellow")
    return Group(head, *(Text(f"  {each.delta}: {one_line(each.reason, 300)}") for each in quarantine.latest))


def _queue(queue: QueueView | None) -> Text:
    if queue is None:
        return Text("not configured", style="dim")
    flight = f", {queue.in_flight:,} in flight" if queue.in_flight else ""
    return Text(f"{counted(queue.messages, 'message')}{flight}")


def _executions(overview: Overview) -> RenderableType:
    if not overview.executions:
        return Text("none yet" if overview.state_machine else "not configured", style="dim")
    table = Listing(
        Column("", "id"), Column("", "fixed"), Column("", "fixed", drop=1), Column("", "fixed"), heading=False
    )
    for each in overview.executions:
        took = duration(each.seconds)
        started = local_time(each.started.timestamp())
        table.add_row(Text(each.name), Text(each.status, style=STATUS_STYLES.get(each.status, "")), started, took)
    return table
