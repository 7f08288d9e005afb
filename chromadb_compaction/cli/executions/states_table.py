"""An execution drawn as a table of states, while it runs and after."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import RenderableType
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.formatting import counted, duration, one_line
from chromadb_compaction.cli.executions.timeline import StateVisit, Timeline

SILENT = frozenset({"Choice", "Succeed", "Pass"})
"""Kinds of states that take no time and that nobody waits for."""


def states_table(timeline: Timeline, *, now: datetime | None = None, every_state: bool = False) -> Table:
    """Return one row per visit: mark, state, duration, what is to be said of it. Iterations of a Map are one row."""
    moment = now or datetime.now(UTC)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    table.add_column("State")
    table.add_column("Time", justify="right")
    table.add_column("", overflow="fold")
    for visit in timeline.visits:
        if visit.inside is None and (every_state or visit.kind not in SILENT):
            table.add_row(_mark(visit), visit.name, duration(visit.seconds(moment)), remark(visit, timeline))
    return table


def remark(visit: StateVisit, timeline: Timeline) -> Text:
    """Return what is worth saying of a visit: iterations, failed attempts and the last error."""
    said = Text()
    failures = list(visit.failures)
    if visit.kind == "Map":
        inner = _iterations(visit, timeline)
        failures += [failure for each in inner for failure in each.failures]
        said.append(_batches(visit))
    if failures:
        separator = "; " if said else ""
        said.append(f"{separator}{counted(len(failures), 'failed attempt')}, the last: ", style="yellow")
        said.append(f"{failures[-1].error}: {one_line(failures[-1].message, 200)}", style="yellow")
    return said


def _batches(visit: StateVisit) -> str:
    if visit.iterations is not None:
        return f"{visit.iterations_done} of {counted(visit.iterations, 'batch', 'batches')}"
    return counted(visit.succeeded, "batch", "batches") if visit.succeeded else ""


def _iterations(visit: StateVisit, timeline: Timeline) -> list[StateVisit]:
    end = visit.left or datetime.max.replace(tzinfo=UTC)
    return [each for each in timeline.visits if each.inside == visit.name and visit.entered <= each.entered <= end]


def _mark(visit: StateVisit) -> RenderableType:
    if visit.left is None:
        return Spinner("dots", style="cyan")
    return Text("✗", style="red") if visit.failed else Text("✓", style="green")
