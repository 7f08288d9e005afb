"""The text of `replica`: what a replica lacks, and what was copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType

from chromadb_compaction.cli.common.formatting import counted, size

if TYPE_CHECKING:
    from chromadb_compaction.operations.replica import ReplicaCopied, ReplicaStatus

NAMED = 5


def render_status(found: ReplicaStatus, bucket: str, region: str | None) -> Iterator[RenderableType]:
    """Render what the replica lacks, and the command that copies it."""
    if found.snapshot_id is None:
        yield "Nothing has been published yet."
    elif found.missing:
        missing = f"{counted(len(found.missing), 'object')} of snapshot {found.snapshot_id}"
        yield f"[red]{bucket} lacks {missing}[/], {size(found.missing_bytes)}: {_some(found.missing)}"
    else:
        yield f"{bucket} has every object of snapshot [bold]{found.snapshot_id}[/]."
    if found.deltas:
        yield f"[red]It lacks {counted(len(found.deltas), 'pending delta')}[/]: {_some(found.deltas)}"
    if found.replica_snapshot_id != found.snapshot_id:
        yield f"Its pointer names {found.replica_snapshot_id or 'no snapshot'}."
    if not found.complete:
        option = f" --region {region}" if region else ""
        yield f"next: wait for S3's replication, or: chromadb-compaction replica copy {bucket}{option}"


def render_copied(copied: ReplicaCopied, bucket: str) -> Iterator[RenderableType]:
    """Render what was copied."""
    deltas = counted(copied.deltas, "pending delta")
    yield f"Copied {counted(copied.files, 'object')}, {size(copied.bytes)}, and {deltas}; {copied.kept} were there."
    if copied.snapshot_id is None:
        yield "Nothing has been published yet, so the replica has no pointer."
    elif copied.pointer:
        yield f"The pointer of {bucket} names snapshot [bold]{copied.snapshot_id}[/] now."
    else:
        yield f"The pointer of {bucket} names this snapshot or a later one already."


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED:,} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
