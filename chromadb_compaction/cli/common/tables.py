"""The kinds of tables that commands print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

LONGEST_ID = 44
"""An id of this length or less stands on one line. UUIDs have 36 characters."""

_NARROWEST_TEXT = 12
_GAP = 2


def facts(*rows: tuple[str, RenderableType]) -> Table:
    """Return a table of names and values without a heading."""
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    return grid


class Column(NamedTuple):
    """One column of a Listing.

    Attributes:
        heading: Its heading.
        kind: An `id` and a `number` stay on one line, and so does `fixed` text. `text` is folded.
        drop: The columns with the smallest number are the first to be left out. None: never.
    """

    heading: str
    kind: Literal["id", "number", "fixed", "text"] = "text"
    drop: int | None = None


class Listing:
    """A table without lines that leaves out columns rather than cut its ids, as far as the terminal is too narrow."""

    def __init__(self, *columns: Column, heading: bool = True) -> None:
        self._columns = columns
        self._heading = heading
        self._rows: list[tuple[Sequence[Text | str], str | None]] = []

    def add_row(self, *cells: Text | str, style: str | None = None) -> None:
        """Add a row with a cell for each column. Text may hold anything; a `str` is rich markup."""
        self._rows.append((cells, style))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table for the width of the terminal."""
        yield self._table(options.max_width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return the widths of the table that this width leaves."""
        return Measurement.get(console, options, self._table(options.max_width))

    def _table(self, width: int) -> Table:
        shown = self._shown(width)
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=self._heading)
        for index in shown:
            column = self._columns[index]
            table.add_column(
                column.heading,
                justify="right" if column.kind == "number" else "left",
                no_wrap=column.kind in ("number", "fixed"),
                overflow="fold",
                min_width=self._least(index) if column.kind == "id" else None,
            )
        for cells, style in self._rows:
            table.add_row(*(cells[index] for index in shown), style=style)
        return table

    def _shown(self, width: int) -> list[int]:
        """Return the indexes of the columns that the width has space for."""
        shown = list(range(len(self._columns)))
        droppable = sorted((each.drop, index) for index, each in enumerate(self._columns) if each.drop is not None)
        for _, index in droppable:
            if sum(self._least(each) + _GAP for each in shown) - _GAP <= width:
                break
            shown.remove(index)
        return shown

    def _least(self, index: int) -> int:
        """Return the width that the column needs."""
        column = self._columns[index]
        longest = max((_length(cells[index]) for cells, _ in self._rows), default=0)
        limit = {"id": LONGEST_ID, "text": _NARROWEST_TEXT}.get(column.kind, longest)
        return max(min(longest, limit), len(column.heading) if self._heading else 0)


def _length(cell: Text | str) -> int:
    return cell.cell_len if isinstance(cell, Text) else Text.from_markup(cell).cell_len
