"""`history`: what an execution did, state by state, why it failed, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from chromadb_compaction.cli.commands.status import STATUS_STYLES
from chromadb_compaction.cli.common.console import JsonFlag, note, out, print_json
from chromadb_compaction.cli.common.formatting import duration
from chromadb_compaction.errors import InvalidRequestError

if TYPE_CHECKING:
    from chromadb_compaction.cli.executions.client import Execution
    from chromadb_compaction.cli.executions.failure_report import FailureReport
    from chromadb_compaction.cli.executions.timeline import Timeline

FIRST_LINES, LAST_LINES = 6, 14
"""Lines of the log that fit a screen beside the rest; `--json` and `--html` hold them all."""


def history(
    execution: Annotated[
        str | None, typer.Argument(help="The execution's name or ARN; by default the last one.", show_default=False)
    ] = None,
    *,
    html: Annotated[
        Path | None,
        typer.Option(help="Write it as one self-contained page, with a time chart.", dir_okay=False),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show an execution's timeline: states, durations, retries, batches; and of a failure all that explains it.

    Example: `chromadb-compaction history --html last.html`
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.executions.client import find, read_history, state_machine
    from chromadb_compaction.cli.executions.failure_report import read_failure

    client = clients.step_functions()
    found = find(client, state_machine(clients.settings()), execution)
    timeline = read_history(client, found.arn)
    story = read_failure(clients.logs(), found, timeline)
    if html:
        _write_page(html, found, timeline, story)
    if as_json:
        print_json(_as_json(found, timeline, story))
    elif html:
        note(f"Wrote {html}")
    else:
        tell(found, timeline, story)


def tell(execution: Execution, timeline: Timeline, story: FailureReport | None) -> None:
    """Print the timeline for a person."""
    from chromadb_compaction.cli.executions.states_table import states_table

    started = execution.started.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    out.print(
        Text.assemble(
            (execution.name, "bold"),
            "  ",
            (execution.status, STATUS_STYLES.get(execution.status, "")),
            f"  started {started}, {'so far' if execution.stopped is None else 'took'} {duration(execution.seconds)}",
        )
    )
    out.print(states_table(timeline, every_state=True))
    if story:
        _tell_failure(story)


def _tell_failure(story: FailureReport) -> None:
    out.print(Text.assemble((f"{story.error}: ", "bold red"), story.message or "no message"))
    got_over = "" if story.next else "; the execution got over it"
    out.print(Text.assemble(("in: ", "dim"), f"{story.where}{got_over}"))
    if story.lines:
        request = f", request {story.request}" if story.request else ""
        out.print(Text(f"log: {story.log_group}{request}", style="dim"))
    for line in _shortened(story.lines):
        out.print(Text(f"  {line}"), soft_wrap=True)
    if story.next:
        out.print(Text.assemble(("what it means: ", "dim"), story.meaning or ""))
        out.print(Text.assemble(("next: ", "dim"), (story.next, "bold")), soft_wrap=True)


def _shortened(lines: tuple[str, ...]) -> tuple[str, ...]:
    left_out = len(lines) - FIRST_LINES - LAST_LINES
    if left_out <= 1:
        return lines
    return (*lines[:FIRST_LINES], f"... {left_out} lines more with --json ...", *lines[-LAST_LINES:])


def _write_page(path: Path, execution: Execution, timeline: Timeline, story: FailureReport | None) -> None:
    from chromadb_compaction.cli.executions.html_page import page

    try:
        path.write_text(page(execution, timeline, story), encoding="utf-8")
    except OSError as error:
        raise InvalidRequestError(f"cannot write {path}: {error.strerror}; choose another FILE") from error


def _as_json(execution: Execution, timeline: Timeline, story: FailureReport | None) -> dict[str, object]:
    return {
        **execution.model_dump(mode="json"),
        "seconds": execution.seconds,
        "states": [
            {**visit.model_dump(mode="json"), "seconds": visit.seconds(execution.stopped or visit.entered)}
            for visit in timeline.visits
        ],
        "failure": story and story.model_dump(mode="json"),
    }
