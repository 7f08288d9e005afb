"""`history`: what an execution did, state by state, and why it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from chromadb_compaction.cli.console import JsonFlag, out, print_json
from chromadb_compaction.cli.status import STATUS_STYLES
from chromadb_compaction.cli.wording import duration

if TYPE_CHECKING:
    from chromadb_compaction.cli.executions import Execution
    from chromadb_compaction.cli.failure_logs import LogLine
    from chromadb_compaction.cli.timeline import Timeline


def history(
    execution: Annotated[
        str | None, typer.Argument(help="The execution's name or ARN; by default the last one.", show_default=False)
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show an execution's timeline: states, durations, retries, batches, the error and the log line behind it."""
    from chromadb_compaction.cli import clouds
    from chromadb_compaction.cli.executions import find, read_history, state_machine
    from chromadb_compaction.cli.failure_logs import explaining_line

    client = clouds.step_functions()
    found = find(client, state_machine(clouds.settings()), execution)
    timeline = read_history(client, found.arn)
    failed = timeline.last_failure()
    line = explaining_line(clouds.logs(), failed, found.arn) if failed else None
    if as_json:
        print_json(_as_json(found, timeline, line))
    else:
        tell(found, timeline, line)


def tell(execution: Execution, timeline: Timeline, line: LogLine | None) -> None:
    """Print the timeline for a person."""
    from chromadb_compaction.cli.live import states_table

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
    if execution.error:
        out.print(Text.assemble((f"{execution.error}: ", "bold red"), execution.message or "no message"))
    if line:
        out.print(Text.assemble(("log: ", "dim"), line.message, (f"  ({line.group})", "dim")))


def _as_json(execution: Execution, timeline: Timeline, line: LogLine | None) -> dict[str, object]:
    return {
        **execution.model_dump(mode="json"),
        "seconds": execution.seconds,
        "states": [
            {**visit.model_dump(mode="json"), "seconds": visit.seconds(execution.stopped or visit.entered)}
            for visit in timeline.visits
        ],
        "log": line and {"group": line.group, "at": line.at.isoformat(), "message": line.message},
    }
