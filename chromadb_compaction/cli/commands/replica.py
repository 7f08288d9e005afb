"""`replica`: complete the copy of the bucket in another region, and see what it lacks."""

from __future__ import annotations

from typing import Annotated

import typer

from chromadb_compaction.cli.common.exits import ExitCode
from chromadb_compaction.cli.common.options import JsonFlag
from chromadb_compaction.cli.common.output import output_for

app = typer.Typer(
    name="replica",
    help="Copy the published snapshot and the pending deltas to another bucket."
    " Example: chromadb-compaction replica status BUCKET --region eu-central-1",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

ReplicaBucket = Annotated[
    str, typer.Argument(metavar="BUCKET", help="The replica, such as chromadb-replica-dev-123456789012.")
]
ReplicaRegion = Annotated[
    str | None,
    typer.Option("--region", metavar="NAME", help="The replica's region. By default the one of the environment."),
]


@app.command()
def status(bucket: ReplicaBucket, *, region: ReplicaRegion = None, as_json: JsonFlag = False) -> None:
    """Show what the replica lacks of the published snapshot, by key and size, and of the pending deltas, by content.

    Example: `chromadb-compaction replica status chromadb-replica-dev-123456789012 --region eu-central-1`

    Exit codes: 0 it has everything, 1 something is missing.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.replica import render_status
    from chromadb_compaction.operations.replica import replica_status

    source = clients.services()
    found = replica_status(source, clients.services_of(bucket, region))
    output_for(as_json=as_json).show(found, lambda one: render_status(one, bucket, region))
    if not found.complete:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def copy(bucket: ReplicaBucket, *, region: ReplicaRegion = None, as_json: JsonFlag = False) -> None:
    """Copy what the replica lacks, through this machine: files, each checked, then pending deltas, the pointer last.

    Once is enough: afterwards S3 replicates what is written. A copy that was stopped goes on where it was.

    Example: `chromadb-compaction replica copy chromadb-replica-dev-123456789012 --region eu-central-1`

    Exit codes: 0 the replica has everything, 5 the snapshot to copy is damaged.
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.replica import render_copied
    from chromadb_compaction.operations.replica import copy_to_replica

    source = clients.services()
    copied = copy_to_replica(source, clients.services_of(bucket, region))
    output_for(as_json=as_json).show(copied, lambda one: render_copied(one, bucket))
