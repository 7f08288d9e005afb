"""The pointer, which publishes a snapshot."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from chromadb_compaction.manifest.stored import Sha256, SnapshotId, Stored


class Pointer(Stored):
    """The content of snapshot/CURRENT.

    Attributes:
        format: The version of this format.
        snapshot_id: The id of the published snapshot.
        sequence: A number that grows with every swap, including rollbacks. The next snapshot's id has sequence + 1.
        manifest_sha256: The SHA-256 of the published manifest, in hexadecimal.
        commit_id: Execution ARN + "/" + pass, so that after a lost response the writer recognises its own commit.
        published_at: When the pointer was swapped, in Unix seconds.
    """

    format: Literal[1] = 1
    snapshot_id: SnapshotId
    sequence: Annotated[int, Field(ge=1, lt=10**10 - 1)]
    manifest_sha256: Sha256
    commit_id: str
    published_at: float


def commit_id(execution: str, pass_number: int) -> str:
    """Return the identity of one pass's commit."""
    return f"{execution}/{pass_number}"
