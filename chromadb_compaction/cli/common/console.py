"""The two streams of the command line: results on standard output, everything else on stderr."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

PIPE_WIDTH = 140
"""Columns of a table that is written to a file or a pipe."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(highlight=False, stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def note(message: str) -> None:
    """Print a line to stderr."""
    err.print(Text(message), soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning to stderr, on one line."""
    _print_labelled("warning: ", "yellow", message)


def print_error(message: str, next_step: str | None = None) -> None:
    """Print an error to stderr on one line, and the next step on a second line if there is one."""
    _print_labelled("error: ", "bold red", message)
    if next_step:
        _print_labelled("next: ", "bold", next_step)


def _print_labelled(label: str, style: str, message: str) -> None:
    err.print(Text.assemble((label, style), " ".join(message.split())), soft_wrap=True)
