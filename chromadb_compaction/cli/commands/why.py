"""`why`: which delta wrote the current version of a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.console import JsonFlag, out, print_json
from chromadb_compaction.cli.common.exits import NothingFoundError

if TYPE_CHECKING:
    from chromadb_compaction.operations.provenance import Provenance


def why(
    record: Annotated[str, typer.Argument(metavar="ID", help="The record's id.")],
    *,
    collection: Annotated[str, typer.Option("--collection", "-c", metavar="NAME", help="The collection.")],
    as_json: JsonFlag = False,
) -> None:
    """Say which delta wrote a record's current version, when, and since which snapshot it has been published.

    Example: `chromadb-compaction why intro -c docs`

    Exit codes: 0 found (a deleted id too), 4 the collection has never seen that id.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.operations.provenance import find_provenance

    services = clients.services()
    found = find_provenance(services, collection, record)
    if found is None:
        raise NothingFoundError(
            f"the published snapshot has never seen the id {record!r} in {collection}; a pending delta may hold it:"
            f" chromadb-compaction deltas list -c {collection}"
        )
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        tell(found, now=services.clock())


def tell(found: Provenance, *, now: float) -> None:
    """Print it for a person."""
    from chromadb_compaction.cli.common.formatting import counted
    from chromadb_compaction.cli.views.snapshots import when

    state = ("deleted", "yellow") if found.deleted else ("live", "green")
    out.print(Text.assemble((found.id, "bold"), f" in {found.collection}: ", state))
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("Delta", Text(f"{found.delta}, row {found.row} (the first is 0)"))
    grid.add_row("Written", when(found.written_at, now))
    grid.add_row("Now at", Text(f"{found.key} ({found.place})" if found.key else "nowhere: it has expired"))
    grid.add_row("Snapshot", _since(found, now))
    if found.pending_deltas:
        held = counted(found.pending_deltas, "delta")
        grid.add_row("Pending", f"{held} of this collection, which may bring a newer version")
    out.print(grid)


def _since(found: Provenance, now: float) -> str:
    from chromadb_compaction.cli.views.snapshots import when

    if found.first_snapshot and found.first_published_at:
        return f"first in {found.first_snapshot}, made {when(found.first_published_at, now)}"
    return f"no later than {found.no_later_than}: what came before it is no longer known"
