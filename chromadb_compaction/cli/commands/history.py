"""`history`: the states of an execution, why it failed, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from chromadb_compaction.cli.commands.status import STATUS_STYLES
from chromadb_compaction.cli.common.console import note
from chromadb_compaction.cli.common.formatting import duration, local_time
from chromadb_compaction.cli.common.options import JsonFlag
from chromadb_compaction.cli.common.output import output_for
from chromadb_compaction.errors import InvalidRequestError

if TYPE_CHECKING:
    from chromadb_compaction.cli.executions.client import Execution
    from chromadb_compaction.cli.executions.failure_report import FailureReport
    from chromadb_compaction.cli.executions.timeline import Timeline

FIRST_LINES, LAST_LINES = 6, 14
"""Lines of the log that are shown. `--json` and `--html` have them all."""


def history(
    execution: Annotated[
        str | None,
        typer.Argument(
            help="The execution's name, its beginning, or ARN; by default the last one.", show_default=False
        ),
    ] = None,
    *,
    html: Annotated[
        Path | None,
        typer.Option(help="Write it to this file as one self-contained page with a time chart.", dir_okay=False),
    ] = None,
    following: Annotated[
        bool, typer.Option("--follow", help="If it runs, follow it until it ends, state by state.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show an execution's timeline: states, durations, retries and batches, and what explains a failure.

    Example: `chromadb-compaction history --html last.html`

    Exit codes: 0 shown (a failed execution too), 4 there is no such execution, 130 Ctrl-C ended --follow, and the
    execution goes on.
    """
    from chromadb_compaction.aws import logs, workflow
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.executions.client import describe, find, read_history, state_machine
    from chromadb_compaction.cli.executions.failure_report import read_failure
    from chromadb_compaction.cli.executions.waiting import follow_until_ctrl_c

    client = workflow.step_functions()
    found = find(client, state_machine(clients.settings()), execution)
    output = output_for(as_json=as_json)
    if following and found.stopped is None:
        follow_until_ctrl_c(output.progress, client, found.arn)
        found = describe(client, found.arn)
    timeline = read_history(client, found.arn)
    report = read_failure(logs.cloudwatch_logs(), found, timeline)
    if html:
        _write_page(html, found, timeline, report)
        note(f"Wrote {html}")
    value = _as_json(found, timeline, report)
    output.show(value, lambda _: [] if html else render(found, timeline, report))


def render(execution: Execution, timeline: Timeline, report: FailureReport | None) -> Iterator[RenderableType]:
    """Render the timeline for a person, and the failure if there was one."""
    from chromadb_compaction.cli.executions.states_table import states_table

    started = local_time(execution.started.timestamp())
    took = f"{'so far' if execution.stopped is None else 'took'} {duration(execution.seconds)}"
    status = (execution.status, STATUS_STYLES.get(execution.status, ""))
    yield Text.assemble((execution.name, "bold"), "  ", status, f"  started {started}, {took}")
    yield states_table(timeline, every_state=True)
    if report:
        yield from _render_failure(report)


def _render_failure(report: FailureReport) -> Iterator[Text]:
    yield Text.assemble((f"{report.error}: ", "bold red"), report.message or "no message")
    recovered = "" if report.next else "; the execution recovered from it"
    yield Text.assemble(("in: ", "dim"), f"{report.where}{recovered}")
    if report.lines:
        request = f", request {report.request}" if report.request else ""
        yield Text(f"log: {report.log_group}{request}", style="dim")
    for line in _shortened(report.lines):
        yield Text(f"  {line}")
    if report.next:
        if report.published:
            yield Text.assemble(("published before that: ", "dim"), report.published)
        yield Text.assemble(("what it means: ", "dim"), report.meaning or "")
        yield Text.assemble(("next: ", "dim"), (report.next, "bold"))


def _shortened(lines: tuple[str, ...]) -> tuple[str, ...]:
    left_out = len(lines) - FIRST_LINES - LAST_LINES
    if left_out <= 1:
        return lines
    return (*lines[:FIRST_LINES], f"... {left_out} more lines with --json ...", *lines[-LAST_LINES:])


def _write_page(path: Path, execution: Execution, timeline: Timeline, report: FailureReport | None) -> None:
    from chromadb_compaction.cli.executions.html_page import page

    try:
        path.write_text(page(execution, timeline, report), encoding="utf-8")
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        raise InvalidRequestError(message, next_step="choose another FILE") from error


def _as_json(execution: Execution, timeline: Timeline, report: FailureReport | None) -> dict[str, object]:
    return {
        **execution.model_dump(mode="json"),
        "seconds": execution.seconds,
        "states": [
            {**visit.model_dump(mode="json"), "seconds": visit.seconds(execution.stopped or visit.entered)}
            for visit in timeline.visits
        ],
        "failure": report and report.model_dump(mode="json"),
    }
