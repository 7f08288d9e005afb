"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from chromadb_compaction.cli.common.output import remember_output

JsonFlag = Annotated[
    bool,
    typer.Option("--json", help="Print JSON, and nothing else, to standard output.", callback=remember_output),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
