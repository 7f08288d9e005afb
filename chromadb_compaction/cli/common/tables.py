"""The two kinds of tables that commands print."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table


def facts(*rows: tuple[str, RenderableType]) -> Table:
    """Return a table of names and values without a heading."""
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    return grid


def listing() -> Table:
    """Return an empty table with a heading and without lines."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
