"""The two streams of the command line: results on standard output, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from chromadb_compaction.cli.common.control_characters import escape_text

PIPE_WIDTH = 140
"""Columns of a table that is written to a file or a pipe."""


class EscapingConsole(Console):
    r"""A console that shows control characters of the text as e.g. \x1b. Its own colours and cursor moves stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of anything that is printed. rich passes every part of a table here too."""
        if isinstance(renderable, Text) and (shown := escape_text(renderable.plain)) != renderable.plain:
            renderable = renderable.blank_copy(shown)
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escape_text(segment.text), segment.style)


out = EscapingConsole(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = EscapingConsole(highlight=False, stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)


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
