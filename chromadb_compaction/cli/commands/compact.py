"""`compact`: start an execution, and follow it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from chromadb_compaction.cli.common.formatting import counted, local_time, size
from chromadb_compaction.cli.common.many import summarised
from chromadb_compaction.cli.common.options import JsonFlag
from chromadb_compaction.cli.common.output import exit_with, output_for
from chromadb_compaction.errors import CompactionError, LockHeldError
from chromadb_compaction.layout import execution_name

if TYPE_CHECKING:
    from chromadb_compaction.cli.executions.summary import Summary
    from chromadb_compaction.messages import CollectionCounts


def compact(
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the execution, state by state, until it ends.")] = False,
    merges_all: Annotated[
        bool, typer.Option("--all", help="Merge the collections too that wait for more deltas.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Merge the pending deltas into the published snapshot.

    Collections that are not due yet (COMPACTION_MIN_ROWS, COMPACTION_MIN_BYTES, COMPACTION_MAX_AGE_MINUTES) wait,
    unless --all is given.

    Example: `chromadb-compaction compact --wait`

    Exit codes: 0 succeeded (without --wait: started), 1 failed, 3 another execution holds the lock, 130 Ctrl-C ended
    the waiting, and the execution goes on.
    """
    from chromadb_compaction.aws import workflow
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.executions.client import state_machine
    from chromadb_compaction.cli.executions.summary import summarise
    from chromadb_compaction.cli.executions.waiting import follow_until_ctrl_c

    output = output_for(as_json=as_json)
    client = workflow.step_functions()
    arn = workflow.start(state_machine(clients.settings()), client, merges_all=merges_all)
    name = execution_name(arn)
    see = f"chromadb-compaction history {name}"
    if not wait:
        started = {"execution": arn, "status": "RUNNING"}
        output.show(started, lambda _: [f"Started {name}. Follow it: [bold]{see} --follow[/]"])
        return
    summary = summarise(follow_until_ctrl_c(output.progress, client, arn))
    output.show({"execution": arn, **summary.model_dump(mode="json")}, lambda _: render_summary(summary))
    if summary.held is not None:
        raise exit_with(LockHeldError(f"nothing was done: {summary.held}"))
    if summary.status != "SUCCEEDED":
        reason = f"{summary.error}: {summary.message}" if summary.error else "no error was given"
        published = f" after it had published snapshot {summary.snapshot_id}" if summary.snapshot_id else ""
        message = f"the execution ended {summary.status}{published}: {reason}"
        raise exit_with(CompactionError(message, next_step=f"see: {see}"))


def render_summary(summary: Summary) -> Iterator[RenderableType]:
    """Render what a finished execution did. An execution that failed or found the lock held has no summary."""
    if summary.held is not None or summary.status != "SUCCEEDED":
        return
    if not summary.batches:
        yield _deferred(summary) or "Nothing was pending."
        return
    passes = f" in {counted(summary.passes, 'pass', 'passes')}" if summary.passes > 1 else ""
    yield f"Merged [bold]{counted(summary.merged, 'delta')}[/]{passes}."
    if summary.quarantined:
        quarantined = counted(summary.quarantined, "delta")
        yield f"[yellow]Quarantined {quarantined}[/]; the reasons: chromadb-compaction status"
    if summary.too_large:
        yield f"[yellow]Too large to fold: {', '.join(summary.too_large)}[/]; what to do: chromadb-compaction status"
    yield from summarised(
        [each for each in summary.collections if each.collections == 1],
        lambda each: (
            each.collection,
            f"{each.added:,} added",
            f"{each.replaced:,} replaced",
            f"{each.deleted:,} deleted",
            f"{each.unchanged:,} unchanged{_older(each)}; {counted(each.records, 'record')} now",
        ),
        weight=lambda each: each.added + each.replaced + each.deleted,
        order="most changed",
        unlisted=sum(each.collections for each in summary.collections if each.collections > 1),
    )
    if summary.snapshot_id is None:
        yield "That changed nothing, so nothing was published."
    else:
        yield f"Published snapshot [bold]{summary.snapshot_id}[/], {size(summary.bytes_uploaded)} uploaded."
    if waiting := _deferred(summary):
        yield waiting


def _deferred(summary: Summary) -> str | None:
    if not summary.deferred or summary.deferred_until is None:
        return None
    until = local_time(summary.deferred_until)
    return f"{counted(summary.deferred, 'delta')} waiting until {until} at the latest; merge now: compact --all"


def _older(counts: CollectionCounts) -> str:
    return f", {counts.older:,} older than what is there, or repeated" if counts.older else ""
