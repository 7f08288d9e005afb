"""`doctor`: check everything that the other commands need, and say how to fix what fails."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.exits import ExitCode
from chromadb_compaction.cli.common.options import JsonFlag
from chromadb_compaction.cli.common.output import output_for

if TYPE_CHECKING:
    from chromadb_compaction.cli.views.checks import Finding

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(*, as_json: JsonFlag = False) -> None:
    """Check settings, credentials, permissions, endpoints and versions, and say how to fix what fails.

    It changes nothing. Exit codes: 0 all is well (there may be warnings), 1 something fails.

    Example: `chromadb-compaction doctor --json`
    """
    findings = list(run_checks())
    output_for(as_json=as_json).show([finding._asdict() for finding in findings], lambda _: _render(findings))
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


def run_checks() -> Iterator[Finding]:
    """Run every check, except those that cannot succeed after an earlier one has failed."""
    from chromadb_compaction.aws.account import Account
    from chromadb_compaction.aws.clients import connect
    from chromadb_compaction.cli.views import checks
    from chromadb_compaction.errors import ConfigurationError
    from chromadb_compaction.settings import load_settings

    yield from checks.check_versions()
    basics = list(checks.check_settings(os.environ))
    yield from basics
    try:
        account = Account.connect()
    except ConfigurationError as error:
        yield checks.Finding("credentials", "fail", error.message, error.next_step)
        return
    identity = list(checks.check_identity(account.identity(), time.time()))
    yield from identity
    if any(finding.verdict == "fail" and finding.about != "clock" for finding in (*basics, *identity)):
        yield checks.Finding("permissions", "warn", "not checked: first fix what fails above")
        return
    settings = load_settings()
    yield from checks.check_permissions(account, settings)
    function = settings.chromadb_compactor_function
    deployed = account.function_environment(function) if function else None
    if function and deployed is not None:
        yield from checks.check_deployed(deployed, settings, function)
    yield checks.check_snapshot(connect(settings))


def _render(findings: list[Finding]) -> Iterator[Table]:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        grid.add_row(Text(finding.verdict, style=STYLES[finding.verdict]), finding.about, Text(finding.found))
        if finding.fix:
            grid.add_row("", "", Text.assemble(("fix: ", "dim"), (finding.fix, "bold")))
    yield grid
