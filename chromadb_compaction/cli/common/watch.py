"""Looking again and again: a screen that is drawn anew in place until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from chromadb_compaction.cli.common.console import out
from chromadb_compaction.errors import CompactionError


def watch(look: Callable[[], RenderableType], *, every: float) -> None:
    """Show what `look` returns every so many seconds until Ctrl-C.

    The first look must succeed. A later one that fails leaves the last screen standing, with the error beneath:
    whoever watches an outage should see the end of it.
    """
    shown: RenderableType | None = None
    try:
        shown = look()
        with Live(_dated(shown, every), console=out, auto_refresh=False, screen=out.is_terminal) as live:
            while True:
                time.sleep(every)
                try:
                    shown = look()
                except (CompactionError, ClientError, BotoCoreError) as error:
                    live.update(Group(shown, Text(f"{_clock()}: {error}", style="red")), refresh=True)
                else:
                    live.update(_dated(shown, every), refresh=True)
    except KeyboardInterrupt:
        if shown is not None and out.is_terminal:
            out.print(shown)


def watch_json(look: Callable[[], str], *, every: float) -> None:
    """Print what `look` returns, one JSON document a line, every so many seconds until Ctrl-C."""
    try:
        while True:
            out.file.write(look() + "\n")
            out.file.flush()
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _dated(screen: RenderableType, every: float) -> RenderableType:
    return Group(screen, Text(f"{_clock()}, again every {every:g} s; Ctrl-C ends", style="dim"))


def _clock() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
