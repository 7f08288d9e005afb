"""`compact`: start an execution, and follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live

from chromadb_compaction.cli.common.console import JsonFlag, err, note, out, print_error, print_json
from chromadb_compaction.cli.common.exits import ExitCode
from chromadb_compaction.cli.common.formatting import counted, size

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from chromadb_compaction.cli.executions.summary import Summary
    from chromadb_compaction.cli.executions.timeline import Timeline


def compact(
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the execution, state by state, until it ends.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Merge the pending deltas into the published snapshot.

    Example: `chromadb-compaction compact --wait`

    Exit codes: 0 succeeded (without --wait: started), 1 failed, 3 another execution holds the lock.
    """
    from chromadb_compaction.aws.workflow import start
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.executions.client import state_machine

    client = clients.step_functions()
    arn = start(state_machine(clients.settings()), client)
    name = arn.rpartition(":")[2]
    if not wait:
        if as_json:
            print_json({"execution": arn, "status": "RUNNING"})
        else:
            out.print(f"Started {name}. Its story: [bold]chromadb-compaction history {name}[/]")
        return
    try:
        timeline = watched(client, arn, quiet=as_json)
    except KeyboardInterrupt:
        note(f"The execution goes on without you. Its story: chromadb-compaction history {name}")
        raise typer.Exit(ExitCode.FAILED) from None
    raise typer.Exit(_report(arn, timeline, as_json=as_json))


def watched(client: SFNClient, arn: str, *, quiet: bool) -> Timeline:
    """Follow the execution to its end, drawing its states on stderr as they pass unless `quiet`.

    Where nobody watches (a file, a server's log) they are drawn once, at the end.
    """
    from chromadb_compaction.cli.executions.client import follow
    from chromadb_compaction.cli.executions.states_table import states_table

    if quiet:
        return follow(client, arn, lambda _: None)
    if not err.is_terminal:
        timeline = follow(client, arn, lambda _: None)
        err.print(states_table(timeline))
        return timeline
    with Live(console=err, refresh_per_second=10) as live:
        return follow(client, arn, lambda timeline: live.update(states_table(timeline)))


def _report(arn: str, timeline: Timeline, *, as_json: bool) -> ExitCode:
    from chromadb_compaction.cli.executions.summary import summarise

    summary = summarise(timeline)
    if as_json:
        print_json({"execution": arn, **summary.model_dump(mode="json")})
    if summary.held is not None:
        print_error(f"nothing was done: {summary.held}")
        return ExitCode.BUSY
    if summary.status != "SUCCEEDED":
        name = arn.rpartition(":")[2]
        reason = f"{summary.error}: {summary.message}" if summary.error else "no error was given"
        print_error(f"the execution ended {summary.status}: {reason}; see: chromadb-compaction history {name}")
        return ExitCode.FAILED
    if not as_json:
        print_summary(summary)
    return ExitCode.DONE


def print_summary(summary: Summary) -> None:
    """Say in a few lines what the execution achieved."""
    if not summary.batches:
        out.print("Nothing was pending.")
        return
    passes = f" in {counted(summary.passes, 'pass', 'passes')}" if summary.passes > 1 else ""
    out.print(f"Merged [bold]{counted(summary.merged, 'delta')}[/]{passes}.")
    if summary.quarantined:
        out.print(
            f"[yellow]Quarantined {counted(summary.quarantined, 'delta')}[/]; the reasons: chromadb-compaction status"
        )
    for each in summary.collections:
        out.print(
            f"  {each.collection}: {each.added:,} added, {each.replaced:,} replaced, {each.deleted:,} deleted,"
            f" {each.unchanged:,} unchanged; {counted(each.records, 'record')} now"
        )
    if summary.snapshot_id is None:
        out.print("That changed nothing, so nothing was published.")
    else:
        out.print(f"Published snapshot [bold]{summary.snapshot_id}[/], {size(summary.bytes_uploaded)} uploaded.")
