"""What a snapshot is made of, and the pointer that publishes it. Both are stored formats (JSON, format 1)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.layout import LONGEST_KEY, check_collection_name

Space = Literal["l2", "cosine", "ip"]


Fingerprint128 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""A sum modulo 2^128, as 32 hexadecimal digits: JSON numbers stop being exact at 2^53."""


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in path:
        raise ValueError(f"the file path {path[:60]!r} does not lie within its collection's directory")
    return path


def _collection(name: str) -> str:
    try:
        return check_collection_name(name)
    except CorruptDeltaError as error:
        raise ValueError("the collection name is none that ChromaDB accepts") from error


# Both become paths on the reader's disk, who may have fetched the snapshot from anywhere.
LocalPath = Annotated[str, AfterValidator(_inside)]
CollectionName = Annotated[str, AfterValidator(_collection)]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StoredFile(_Stored):
    """One file of a snapshot: where it stands (perhaps under an older snapshot), its bytes and its SHA-256."""

    key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Conservation(_Stored):
    """The conservation proof: next = base - replaced - deleted + added, modulo 2^128.

    Each term is the sum of the fingerprints of the rows it names; `next` is recomputed from the whole new
    ledger, never derived from the others, so that the equation can fail.
    """

    base: Fingerprint128
    replaced: Fingerprint128
    deleted: Fingerprint128
    added: Fingerprint128
    next: Fingerprint128

    def holds(self) -> bool:
        """Say whether the equation is true."""
        base, replaced, deleted, added, following = (
            int(term, 16) for term in (self.base, self.replaced, self.deleted, self.added, self.next)
        )
        return (base - replaced - deleted + added - following) % 2**128 == 0


class CollectionSnapshot(_Stored):
    """One collection of a snapshot.

    `files` maps a path inside the collection's directory to its object; `ledger.parquet` is one of them and
    not part of the ChromaDB directory. `dimension` is None while only deletes have been seen: then there is
    no ChromaDB directory yet. `records` counts live rows, `tombstones` deleted ids still remembered.
    """

    dimension: Annotated[int, Field(ge=1)] | None
    space: Space
    embedding_function: str | None
    records: Annotated[int, Field(ge=0)]
    tombstones: Annotated[int, Field(ge=0)]
    conservation: Conservation
    files: dict[LocalPath, StoredFile]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files.values())


class Manifest(_Stored):
    """Everything about one snapshot. `parent` is the base it was folded from; times are Unix seconds."""

    format: Literal[1] = 1
    snapshot_id: str
    parent: str | None
    execution: str
    commit_id: str
    created_at: float
    seconds: float
    deltas_merged: Annotated[int, Field(ge=0)]
    deltas_quarantined: Annotated[int, Field(ge=0)]
    collections: dict[CollectionName, CollectionSnapshot]

    @property
    def records(self) -> int:
        """Live rows of all collections."""
        return sum(collection.records for collection in self.collections.values())

    @property
    def bytes(self) -> int:
        """Bytes of all files, shared ones included."""
        return sum(collection.bytes for collection in self.collections.values())


class Pointer(_Stored):
    """The content of snapshot/CURRENT.

    `sequence` grows with every swap, a rollback included; the next snapshot's id takes sequence + 1.
    `commit_id` is execution ARN + "/" + pass: after a lost response the writer recognises its own commit.
    """

    format: Literal[1] = 1
    snapshot_id: Annotated[str, Field(pattern=r"^[0-9]{10}-[0-9a-f]{8}$")]
    sequence: Annotated[int, Field(ge=1, lt=10**10 - 1)]
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    commit_id: str
    published_at: float


def commit_id(execution: str, pass_number: int) -> str:
    """Return the identity of one pass's commit."""
    return f"{execution}/{pass_number}"
