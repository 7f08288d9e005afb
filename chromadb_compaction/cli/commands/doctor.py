"""`doctor`: whether everything that the other commands need is there, and the mend for what is not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.console import JsonFlag, out, print_json
from chromadb_compaction.cli.common.exits import ExitCode

if TYPE_CHECKING:
    from chromadb_compaction.cli.views.checks import Finding

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(*, as_json: JsonFlag = False) -> None:
    """Check settings, credentials, permissions, endpoints and versions, and say how to mend what fails.

    It reads, and never writes anything. Exit codes: 0 all well (there may be warnings), 1 something fails.

    Example: `chromadb-compaction doctor --json`
    """
    findings = list(examine())
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        out.print(_table(findings))
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


def examine() -> Iterator[Finding]:
    """Make every check that still makes sense after the ones before it."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ProfileNotFound

    from chromadb_compaction.aws.clients import client_config, connect
    from chromadb_compaction.cli.views import checks
    from chromadb_compaction.settings import load_settings

    yield from checks.check_versions()
    settings = list(checks.check_settings(os.environ))
    yield from settings
    # Whoever asks now wants to know at once: one try each, unlike the other commands.
    impatient = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 1})
    try:
        clients = checks.CheckClients(boto3.Session(), client_config().merge(impatient))
    except ProfileNotFound as error:
        yield checks.Finding("credentials", "fail", str(error), "unset AWS_PROFILE, or set it to one that exists")
        return
    identity = list(checks.check_identity(clients, time.time()))
    yield from identity
    if any(finding.verdict == "fail" and finding.about != "clock" for finding in (*settings, *identity)):
        yield checks.Finding("permissions", "warn", "not looked at: mend what fails above first")
        return
    known = load_settings()
    yield from checks.check_permissions(clients, known)
    yield checks.check_snapshot(connect(known))


def _table(findings: list[Finding]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        grid.add_row(Text(finding.verdict, style=STYLES[finding.verdict]), finding.about, Text(finding.found))
        if finding.mend:
            grid.add_row("", "", Text.assemble(("mend: ", "dim"), (finding.mend, "bold")))
    return grid
