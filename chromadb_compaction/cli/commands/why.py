"""`why`: which delta wrote the current version of a record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from chromadb_compaction.cli.common.completion import complete_collection
from chromadb_compaction.cli.common.exits import NothingFoundError
from chromadb_compaction.cli.common.formatting import counted, when
from chromadb_compaction.cli.common.options import JsonFlag
from chromadb_compaction.cli.common.output import output_for
from chromadb_compaction.cli.common.tables import facts

if TYPE_CHECKING:
    from chromadb_compaction.operations.provenance import Provenance


def why(
    record: Annotated[str, typer.Argument(metavar="ID", help="The record's id.")],
    *,
    collection: Annotated[
        str,
        typer.Option("--collection", "-c", metavar="NAME", help="The collection.", autocompletion=complete_collection),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Show which delta wrote a record's current version, when, and in which snapshot it first appeared.

    Example: `chromadb-compaction why intro -c docs`

    Exit codes: 0 found (a deleted id too), 4 the collection has never held that id.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.operations.provenance import find_provenance

    services = clients.services()
    found = find_provenance(services, collection, record)
    if found is None:
        raise NothingFoundError(
            f"the published snapshot has never held the id {record!r} in {collection}",
            next_step=f"see whether a delta of it is pending: chromadb-compaction deltas list -c {collection}",
        )
    output_for(as_json=as_json).show(found, lambda provenance: _render(provenance, services.clock()))


def _render(found: Provenance, now: float) -> Iterator[RenderableType]:
    yield Text.assemble(
        (found.id, "bold"), f" in {found.collection}: ", ("deleted", "yellow") if found.deleted else ("live", "green")
    )
    rows: list[tuple[str, RenderableType]] = [
        ("Delta", Text(f"{found.delta}, row {found.row} (the first is 0)")),
        ("Written", _written(found, now)),
        ("Now at", Text(f"{found.key} ({found.place})" if found.key else "nowhere: it has expired")),
        ("Snapshot", _first_snapshot(found, now)),
    ]
    if found.pending_deltas:
        pending = counted(found.pending_deltas, "delta")
        rows.append(("Pending", f"{pending} of this collection, which may bring a newer version"))
    yield facts(*rows)


def _written(found: Provenance, now: float) -> str:
    if found.written_at - now <= 1:
        return when(found.written_at, now)
    return f"{when(found.written_at, now)}: its producer's clock was ahead, and it wins over every update named earlier"


def _first_snapshot(found: Provenance, now: float) -> str:
    if found.first_snapshot and found.first_published_at:
        return f"first in {found.first_snapshot}, made {when(found.first_published_at, now)}"
    return f"no later than {found.no_later_than}: older snapshots are no longer known"
