"""`snapshots`: which there are, whether they are whole, a copy of one, and the way back to one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chromadb_compaction.cli.common.console import JsonFlag, note, out, print_error, print_json
from chromadb_compaction.cli.common.exits import ExitCode
from chromadb_compaction.cli.common.formatting import counted, size

app = typer.Typer(
    name="snapshots",
    help="List, check, copy and roll back snapshots. Example: chromadb-compaction snapshots list",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

SnapshotId = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="By default the published one.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@app.command("list")
def list_snapshots(*, as_json: JsonFlag = False) -> None:
    """List the snapshots, the newest first, and which is published.

    Example: `chromadb-compaction snapshots list`

    Exit codes: 0 shown, 4 there are none, 5 shown, and the pointer or the published snapshot is corrupt.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.snapshots import print_list, view_list

    view = view_list(clients.services())
    if as_json:
        print_json(view.model_dump(mode="json"))
    else:
        print_list(view)
    if view.problem:
        print_error(view.problem)
        raise typer.Exit(ExitCode.CORRUPT)
    if not view.snapshots:
        raise typer.Exit(ExitCode.NOTHING_FOUND)


@app.command()
def show(snapshot_id: SnapshotId = None, *, as_json: JsonFlag = False) -> None:
    """Show one snapshot: its collections, what it merged, where it comes from.

    With --json: the whole manifest, each file with its key, bytes and SHA-256.

    Example: `chromadb-compaction snapshots show 0000000042-3f2a9c1b`
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.snapshots import print_snapshot
    from chromadb_compaction.snapshots.catalogue import read_catalogue

    catalogue = read_catalogue(clients.services())
    manifest = catalogue.find(snapshot_id).manifest
    published = catalogue.current == manifest.snapshot_id
    if as_json:
        print_json({"published": published, **manifest.model_dump(mode="json")})
    else:
        print_snapshot(manifest, published=published)


@app.command()
def pull(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Empty, or not there yet.")],
    *,
    snapshot: Annotated[str | None, typer.Option("--snapshot", metavar="ID", help="Not the published one.")] = None,
    collection: Annotated[
        list[str] | None, typer.Option("--collection", "-c", metavar="NAME", help="Only this one; may be repeated.")
    ] = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Copy a snapshot to DIR: for each collection a directory that chromadb.PersistentClient opens, every file checked.

    Example: `chromadb-compaction snapshots pull ./copy -c docs`, then in Python
    `chromadb.PersistentClient("copy/docs").get_collection("docs")`
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.operations.pull import pull_snapshot

    pulled = pull_snapshot(clients.services(), snapshot, directory, only=collection or (), dry_run=dry_run)
    if as_json:
        print_json(pulled.model_dump(mode="json"))
        return
    verb = "Would copy" if dry_run else "Copied"
    out.print(f"{verb} snapshot [bold]{pulled.snapshot_id}[/], {size(pulled.bytes)}:")
    for each in pulled.collections:
        where = each.directory or "nothing: it has only ever seen deletes"
        out.print(f"  {each.collection}: {counted(each.records, 'record')}, {where}", soft_wrap=True)


@app.command()
def verify(
    snapshot_id: SnapshotId = None,
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Read every record back too, and compute the conservation proof anew.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check that a snapshot is whole: pointer, manifest, and every object's bytes and SHA-256.

    Example: `chromadb-compaction snapshots verify --full`

    Exit codes: 0 whole, 4 there is no such snapshot, 5 it is not what was published.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.snapshots import print_verified
    from chromadb_compaction.operations.verify import verify_snapshot

    verified = verify_snapshot(clients.services(), snapshot_id, full=full)
    if as_json:
        print_json(verified.model_dump(mode="json"))
    else:
        print_verified(verified)
    if verified.problems:
        print_error(
            f"snapshot {verified.snapshot_id} is corrupt; restore the previous versions of its objects, or type:"
            " chromadb-compaction snapshots list, and: chromadb-compaction snapshots rollback ID"
        )
        raise typer.Exit(ExitCode.CORRUPT)


@app.command()
def rollback(
    snapshot_id: Annotated[str, typer.Argument(metavar="ID", help="As `snapshots list` names it.")],
    *,
    replay: Annotated[
        bool, typer.Option("--replay", help="Make every delta merged since pending again, for the next compaction.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="DELTA", help="Put this one into quarantine instead; may be repeated."),
    ] = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Publish an older snapshot again.

    With --replay nothing is given up: after the next compaction the content is what it was, without the deltas that
    --without names. It works even if the published snapshot or `snapshot/CURRENT` is damaged or gone. No compaction
    runs meanwhile.

    Example: `chromadb-compaction snapshots rollback 0000000042-3f2a9c1b --replay --dry-run`

    Exit codes: 0 done, 3 an execution holds the lock, 4 no such snapshot, or a delta to replay has expired, 5 the
    snapshot is not all there.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.common.clients import operator_name
    from chromadb_compaction.cli.views.snapshots import print_rolled_back
    from chromadb_compaction.operations.rollback import RollbackRequest
    from chromadb_compaction.operations.rollback import rollback as roll_back

    request = RollbackRequest(
        snapshot_id=snapshot_id,
        operator=operator_name(),
        replay=replay,
        without=tuple(without or ()),
        dry_run=dry_run,
    )
    services = clients.services()
    done = roll_back(request, services)
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    print_rolled_back(done)
    held = services.leases.read(services.settings.lock_id) if dry_run else None
    if held and not held.is_expired(services.clock()):
        note(f"The lock is held by {held.owner}: until it is free, the rollback would be refused.")
