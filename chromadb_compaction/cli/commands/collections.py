"""`collections`: list, show and delete collections."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from chromadb_compaction.cli.common.completion import complete_collection
from chromadb_compaction.cli.common.exits import ExitCode
from chromadb_compaction.cli.common.formatting import counted, size
from chromadb_compaction.cli.common.options import DryRun, JsonFlag
from chromadb_compaction.cli.common.output import output_for
from chromadb_compaction.cli.common.tables import Column, Listing, facts

if TYPE_CHECKING:
    from chromadb_compaction.operations.collections import DroppedCollection, PublishedCollection

app = typer.Typer(
    name="collections",
    help="List, show and delete collections. Example: chromadb-compaction collections list",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The name of the collection.", show_default=False, autocompletion=complete_collection
    ),
]


@app.command("list")
def list_all(*, as_json: JsonFlag = False) -> None:
    """List the collections of the published snapshot.

    Example: `chromadb-compaction collections list`

    Exit codes: 0 shown, 4 there are none.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.operations.collections import list_collections

    found = list_collections(clients.services())
    output_for(as_json=as_json).show(found, _render_list)
    if not found:
        raise typer.Exit(ExitCode.NOTHING_FOUND)


@app.command()
def show(name: Name, *, as_json: JsonFlag = False) -> None:
    """Show one published collection: its records, its settings and its metadata.

    Example: `chromadb-compaction collections show docs`
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.operations.collections import show_collection

    output_for(as_json=as_json).show(show_collection(clients.services(), name), _render_one)


@app.command()
def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, also on a terminal.")] = False,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete a collection at the next compaction, with its pending deltas. It can be made again with another shape.

    It asks first if it is typed on a terminal. A snapshot from before the deletion can be published again.

    Example: `chromadb-compaction collections delete docs --dry-run`

    Exit codes: 0 done, 1 the answer was no, 4 there is no such collection.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.operations.collections import drop_collection

    services = clients.services()
    if sys.stdin.isatty() and not (yes or dry_run):
        found = drop_collection(services, name, dry_run=True)
        typer.confirm(f"Delete {_description(found)}?", abort=True, err=True)
    dropped = drop_collection(services, name, dry_run=dry_run)
    output_for(as_json=as_json).show(dropped, _render_dropped)


def _render_list(found: Sequence[PublishedCollection]) -> Iterator[RenderableType]:
    if not found:
        yield "There are no collections. Make one: [bold]chromadb-compaction put FILE --collection NAME[/]"
        return
    table = Listing(
        Column("collection", "id"),
        Column("records", "number"),
        Column("dimensions", "number", drop=2),
        Column("distance", "number"),
        Column("size", "number"),
        Column("pending", "number"),
        Column("embedding function", drop=1),
    )
    for each in found:
        table.add_row(
            Text(each.collection),
            f"{each.records:,}",
            str(each.dimension or "none yet"),
            each.space,
            size(each.bytes),
            f"{each.pending_deltas:,}",
            Text(each.embedding_function or ""),
        )
    yield table


def _render_one(found: PublishedCollection) -> Iterator[RenderableType]:
    function = found.configuration.get("embedding_function")
    yield Text(found.collection, style="bold")
    yield facts(
        ("Snapshot", found.snapshot_id),
        ("Records", f"{found.records:,}"),
        ("Dimensions", str(found.dimension or "none yet")),
        ("Distance", found.space),
        ("Index", Text(_as_text(found.configuration["hnsw"]))),
        ("Embedding function", Text(_as_text(function) if function else "none")),
        ("Metadata", Text(_as_text(found.metadata) if found.metadata else "none")),
        ("Size", size(found.bytes)),
        ("Pending", counted(found.pending_deltas, "delta")),
    )


def _as_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _render_dropped(dropped: DroppedCollection) -> Iterator[RenderableType]:
    yield Text(f"{'Would delete' if dropped.dry_run else 'Deletes'} {_description(dropped)}.")
    if not dropped.dry_run:
        yield "It is gone after the next compaction: [bold]chromadb-compaction compact --wait[/]"


def _description(dropped: DroppedCollection) -> str:
    records = "which is not published yet" if dropped.records is None else counted(dropped.records, "record")
    return f"collection {dropped.collection}: {records}, {counted(dropped.pending_deltas, 'pending delta')}"
