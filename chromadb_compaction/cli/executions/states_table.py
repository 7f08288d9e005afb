"""The table of an execution's states, during the execution and after it."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import RenderableType
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.formatting import counted, duration, one_line
from chromadb_compaction.cli.executions.timeline import StateVisit, Timeline

INSTANT = frozenset({"Choice", "Succeed", "Pass"})
"""Types of states that take no time."""


def states_table(timeline: Timeline, *, now: datetime | None = None, every_state: bool = False) -> Table:
    """Return one row per visit: mark, state, duration and remark. All iterations of a Map share its row."""
    moment = now or datetime.now(UTC)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    table.add_column("State")
    table.add_column("Time", justify="right")
    table.add_column("", overflow="fold")
    for visit in timeline.visits:
        if visit.inside is None and (every_state or visit.kind not in INSTANT):
            table.add_row(_mark(visit), visit.name, duration(visit.seconds(moment)), remark(visit, timeline))
    return table


def remark(visit: StateVisit, timeline: Timeline) -> Text:
    """Return a visit's batches, failed attempts and last error."""
    text = Text()
    failures = list(visit.failures)
    if visit.kind == "Map":
        failures += [failure for each in timeline.iterations_of(visit) for failure in each.failures]
        text.append(_batches(visit))
    if failures:
        separator = "; " if text else ""
        text.append(f"{separator}{counted(len(failures), 'failed attempt')}, the last: ", style="yellow")
        text.append(f"{failures[-1].error}: {one_line(failures[-1].message, 200)}", style="yellow")
    return text


def _batches(visit: StateVisit) -> str:
    if visit.iterations is not None:
        return f"{visit.iterations_done} of {counted(visit.iterations, *visit.noun)}"
    return counted(visit.succeeded, *visit.noun) if visit.succeeded else ""


def _mark(visit: StateVisit) -> RenderableType:
    if visit.left is None:
        return Spinner("dots", style="cyan")
    return Text("✗", style="red") if visit.failed else Text("✓", style="green")
