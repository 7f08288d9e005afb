"""A summary of collections that stays short however many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import nlargest
from typing import TypeVar

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from chromadb_compaction.cli.common.tables import Column, Listing

MOST = 10
"""The most collections that a summary names."""

Each = TypeVar("Each")


def summarised(
    found: Sequence[Each],
    cells: Callable[[Each], Sequence[str]],
    *,
    weight: Callable[[Each], int],
    order: str,
    unlisted: int = 0,
) -> Iterator[RenderableType]:
    """Yield a line for each collection. Of more than MOST: a table of the first ones, and a line that counts the rest.

    Args:
        found: The collections.
        cells: The name of a collection, and the phrases about it, always the same number.
        weight: The collections with the greatest weight come first in the table.
        order: The words for such collections, e.g. "largest".
        unlisted: The number of further collections, which are not in `found`.
    """
    if len(found) <= MOST:
        yield from (Text(f"  {name}: {', '.join(phrases)}") for name, *phrases in map(cells, found))
        return
    rows = [cells(each) for each in heaviest(found, weight)]
    table = Listing(Column("", "id"), *[Column("", "number")] * (len(rows[0]) - 1), heading=False)
    for row in rows:
        table.add_row(*map(Text, row))
    yield f"  The {MOST} {order} of {len(found) + unlisted:,} collections:"
    yield Padding(table, (0, 0, 0, 4))
    yield f"  and {len(found) + unlisted - MOST:,} more" if unlisted else rest(found)


def heaviest(found: Sequence[Each], weight: Callable[[Each], int]) -> list[Each]:
    """Return all, in their order, or of more than MOST those with the greatest weight, the greatest first."""
    return list(found) if len(found) <= MOST else nlargest(MOST, found, key=weight)


def rest(found: Sequence[object]) -> str:
    """Return a line that counts the collections that `heaviest` left out."""
    return f"  and {len(found) - MOST:,} more: --json names all"
