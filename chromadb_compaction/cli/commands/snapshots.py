"""`snapshots`: list, show, copy, verify and roll back snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chromadb_compaction.cli.common.completion import complete_collection, complete_snapshot
from chromadb_compaction.cli.common.console import note, warn
from chromadb_compaction.cli.common.exits import ExitCode
from chromadb_compaction.cli.common.options import DryRun, JsonFlag
from chromadb_compaction.cli.common.output import exit_with, output_for
from chromadb_compaction.errors import (
    InvalidRequestError,
    NotReplicatedYetError,
    SnapshotCorruptError,
    error_named,
)

app = typer.Typer(
    name="snapshots",
    help="List, check, copy and roll back snapshots. Example: chromadb-compaction snapshots list",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

ID_HELP = "A snapshot's id, its beginning, its sequence number, or `latest`."

SnapshotId = Annotated[
    str | None,
    typer.Argument(
        metavar="[ID]",
        help=f"{ID_HELP} By default the published one.",
        show_default=False,
        autocompletion=complete_snapshot,
    ),
]


@app.command("list")
def list_snapshots(*, as_json: JsonFlag = False) -> None:
    """List the snapshots, the newest first, and which is published.

    Example: `chromadb-compaction snapshots list`

    Exit codes: 0 shown, 4 there are none, 5 shown, and the pointer or the published snapshot is corrupt,
    6 shown, and a newer version published.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.snapshot_text import render_list
    from chromadb_compaction.cli.views.snapshots import read_snapshot_list

    found = read_snapshot_list(clients.services())
    output_for(as_json=as_json).show(found, render_list)
    if found.problem:
        raise exit_with(error_named(found.problem_kind or "SnapshotCorrupt", found.problem))
    if not found.snapshots:
        raise typer.Exit(ExitCode.NOTHING_FOUND)


@app.command()
def show(snapshot_id: SnapshotId = None, *, as_json: JsonFlag = False) -> None:
    """Show one snapshot: its collections, the deltas that it merged, and its parent.

    With --json: the whole manifest, and each file with its key, bytes and SHA-256.

    Example: `chromadb-compaction snapshots show 0000000042-3f2a9c1b`
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.snapshot_text import render_snapshot
    from chromadb_compaction.cli.views.snapshots import snapshot_json
    from chromadb_compaction.operations.typed_ids import find_snapshot
    from chromadb_compaction.snapshots.catalogue import read_catalogue

    catalogue = read_catalogue(clients.services())
    manifest = find_snapshot(snapshot_id, catalogue).manifest
    published = catalogue.current == manifest.snapshot_id
    value = snapshot_json(manifest, published=published)
    output_for(as_json=as_json).show(value, lambda _: render_snapshot(manifest, published=published))


@app.command()
def pull(  # noqa: PLR0913 - typer makes an option of each
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A directory that is empty or missing, or that a pull has filled.")
    ],
    *,
    snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot",
            metavar="ID",
            help=f"{ID_HELP} By default the published one.",
            autocompletion=complete_snapshot,
        ),
    ] = None,
    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection",
            "-c",
            metavar="NAME",
            help="Only this one; may be repeated.",
            autocompletion=complete_collection,
        ),
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Make DIR one ChromaDB directory of all collections.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what was changed in DIR since the last pull.")
    ] = False,
    following: Annotated[
        bool, typer.Option("--follow", help="Refresh DIR whenever another snapshot is published, until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Seconds between readings of --follow.")] = 30,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Copy a snapshot to DIR, one directory per collection for chromadb.PersistentClient, and check every file.

    A DIR that a pull has filled is refreshed: only what has changed is fetched, and each directory is replaced as a
    whole. A client that is open then keeps what it has read; open another one to see the new content.

    With --json and --follow: one JSON document per line.

    Example: `chromadb-compaction snapshots pull ./copy -c docs`, then in Python
    `chromadb.PersistentClient("copy/docs").get_collection("docs")`

    Exit codes: 0 done, 2 DIR holds something else or was changed, 4 no such snapshot or collection, 5 it is corrupt,
    130 Ctrl-C ended --follow.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.snapshot_text import render_pulled
    from chromadb_compaction.operations.pull import Pulled, pull_snapshot
    from chromadb_compaction.operations.pulling.follow import follow

    if following and (dry_run or snapshot not in (None, "latest")):
        raise InvalidRequestError("--follow copies the published snapshot", next_step="leave out --snapshot, --dry-run")
    output, services = output_for(as_json=as_json), clients.services()

    def pull_once() -> Pulled:
        return pull_snapshot(
            services, snapshot, directory, only=collection or (), merged=merge, force=force, dry_run=dry_run
        )

    if not following:
        output.show(pull_once(), render_pulled)
        return
    try:
        for pulled in follow(services, pull_once, every=every, on_error=lambda error: warn(str(error))):
            output.show_next(pulled, render_pulled)
    except KeyboardInterrupt:
        note(f"Stopped. {directory} stays as it is. Go on: chromadb-compaction snapshots pull {directory} --follow")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


@app.command()
def verify(
    snapshot_id: SnapshotId = None,
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Read every record back too, and compute the conservation proof again.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check that a snapshot is undamaged: pointer, manifest, and every object's bytes and SHA-256.

    Example: `chromadb-compaction snapshots verify --full`

    Exit codes: 0 undamaged, 1 the bucket is a replica that lacks files, 4 the snapshot does not exist, 5 it differs
    from what was published.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.snapshot_text import render_verified
    from chromadb_compaction.operations.verify import verify_snapshot

    services = clients.services()
    verified = verify_snapshot(services, snapshot_id, full=full)
    output_for(as_json=as_json).show(verified, render_verified)
    if verified.missing and services.settings.is_replica:
        problem = f"{verified.missing} files of snapshot {verified.snapshot_id} are missing"
        raise exit_with(NotReplicatedYetError.of(services.settings.chromadb_bucket, problem))
    if verified.problems:
        raise exit_with(
            SnapshotCorruptError(
                f"snapshot {verified.snapshot_id} is corrupt",
                next_step="restore the previous versions of its objects, or type: chromadb-compaction snapshots list,"
                " and: chromadb-compaction snapshots rollback ID --replay",
            )
        )


@app.command()
def rollback(
    snapshot_id: Annotated[str, typer.Argument(metavar="ID", help=ID_HELP, autocompletion=complete_snapshot)],
    *,
    replay: Annotated[
        bool, typer.Option("--replay", help="Make every delta merged since pending again, for the next compaction.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="DELTA", help="Put this delta into quarantine instead; may be repeated."),
    ] = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Publish an older snapshot again.

    With --replay nothing is lost: after the next compaction the content is the same as now, except for the deltas
    that --without names. It works even if the published snapshot or `snapshot/CURRENT` is damaged or missing. It
    holds the lock, so no compaction runs meanwhile.

    Example: `chromadb-compaction snapshots rollback 0000000042-3f2a9c1b --replay --dry-run`

    Exit codes: 0 done, 3 an execution holds the lock, 4 no such snapshot, or a delta to replay has expired, 5 files
    of the snapshot are missing.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.snapshot_text import render_rolled_back
    from chromadb_compaction.operations.rollback import RollbackRequest
    from chromadb_compaction.operations.rollback import rollback as roll_back

    request = RollbackRequest(
        snapshot_id=snapshot_id,
        operator=clients.operator_name(),
        replay=replay,
        without=tuple(without or ()),
        dry_run=dry_run,
    )
    services = clients.services()
    done = roll_back(request, services)
    held = services.leases.read(services.settings.lock_id) if dry_run else None
    output_for(as_json=as_json).show(done, render_rolled_back)
    if held and not held.is_expired(services.clock()):
        warn(f"the lock is held by {held.owner}; the rollback needs it, so wait until it is free")
