"""A result that is read and printed again and again until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from chromadb_compaction.cli.common.console import out
from chromadb_compaction.cli.common.formatting import clock_time
from chromadb_compaction.cli.common.reported import reported_errors


def watch_screen(read: Callable[[], Iterable[RenderableType]], *, every: float) -> None:
    """Draw what `read` returns every `every` seconds, in place.

    An error of the first reading is raised. After a later error the last result stays, with the error below it, since
    an operator who watches an outage must still see it.
    """
    from rich.live import Live

    shown: RenderableType | None = None
    try:
        shown = Group(*read())
        with Live(_with_footer(shown, every), console=out, auto_refresh=False, screen=out.is_terminal) as live:
            while True:
                time.sleep(every)
                try:
                    shown = Group(*read())
                except reported_errors() as error:
                    message = Text(f"{clock_time(time.time())}: {error}", style="red")
                    live.update(Group(shown, message), refresh=True)
                else:
                    live.update(_with_footer(shown, every), refresh=True)
    except KeyboardInterrupt:
        if shown is not None and out.is_terminal:
            out.print(shown)


def watch_lines(read: Callable[[], str], *, every: float) -> None:
    """Print what `read` returns as one line every `every` seconds."""
    try:
        while True:
            out.file.write(read() + "\n")
            out.file.flush()
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _with_footer(shown: RenderableType, every: float) -> RenderableType:
    return Group(shown, Text(f"{clock_time(time.time())}, every {every:g} s; Ctrl-C ends", style="dim"))
