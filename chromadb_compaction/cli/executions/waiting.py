"""Wait for an execution, and draw its states meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.live import Live

from chromadb_compaction.cli.common.console import note
from chromadb_compaction.cli.common.exits import ExitCode
from chromadb_compaction.cli.executions.client import follow
from chromadb_compaction.cli.executions.states_table import states_table
from chromadb_compaction.layout import execution_name

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from chromadb_compaction.cli.executions.timeline import Timeline


def follow_on(console: Console, client: SFNClient, arn: str, *, every_state: bool = False) -> Timeline:
    """Follow the execution to its end and draw its states: on a terminal as they pass, otherwise once at the end."""
    if not console.is_terminal:
        timeline = follow(client, arn, lambda _: None)
        console.print(states_table(timeline, every_state=every_state))
        return timeline
    with Live(console=console, refresh_per_second=10) as live:
        return follow(client, arn, lambda timeline: live.update(states_table(timeline, every_state=every_state)))


def follow_until_ctrl_c(console: Console, client: SFNClient, arn: str, *, every_state: bool = False) -> Timeline:
    """Follow like `follow_on`. After Ctrl-C say that the execution goes on, and raise the exit with code 130."""
    try:
        return follow_on(console, client, arn, every_state=every_state)
    except KeyboardInterrupt:
        name = execution_name(arn)
        note(f"The execution {name} goes on. Follow it: chromadb-compaction history {name} --follow")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
