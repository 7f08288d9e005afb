"""How the commands speak: tables and colour to a person, JSON to a program, errors to stderr."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")]

PIPE_WIDTH = 140
"""Columns to fill when nobody's terminal says how many there are."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(highlight=False, stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def print_json(value: object) -> None:
    """Print `value` as indented JSON, in UTF-8 and without colour."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_error(message: str) -> None:
    """Print one line to stderr."""
    err.print(Text.assemble(("error: ", "bold red"), " ".join(message.split())), soft_wrap=True)


def note(message: str) -> None:
    """Print a line for the person who watches; never to standard output, which may be read by a program."""
    err.print(Text(message), soft_wrap=True)
