"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from chromadb_compaction.cli.common.output import remember_output

JsonFlag = Annotated[
    bool,
    typer.Option("--json", help="Print JSON, and nothing else, to standard output.", callback=remember_output),
]
Distance = Literal["l2", "cosine", "ip"]
"""The values of configuration.Space, whose module takes long to import."""

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
