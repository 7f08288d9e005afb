"""The outcome of each delta of a pass. MergeBatch writes it, the snapshot keeps it, CleanUp acts on it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chromadb_compaction.deltas.identity import Content
from chromadb_compaction.manifest import check_format

LONGEST_REASON = 2000
"""In characters. A reason quotes the delta, and a hostile delta can make the quote megabytes long."""

DeltaStatus = Literal["merged", "quarantined", "missing", "unreadable", "left"]
STAYS_PENDING: tuple[DeltaStatus, ...] = ("unreadable", "left")
"""The snapshot's own list does not have these: nothing of them was used, and nothing is to be done with them."""


class DeltaOutcome(BaseModel):
    """One listed delta, and its outcome in MergeBatch.

    Args:
        key: The key under `delta/`.
        etag: The ETag in the listing.
        bytes: The size in the listing.
        status: `missing` means that it was gone or had changed since the listing, `unreadable` that its object cannot
            be read, `left` that the disk had no space for it. Nothing of these was used.
        rows: The rows of a merged delta.
        reason: The error of a quarantined or unreadable delta, as one line.
        sha256: The SHA-256 of the content that was read. None if it was not read, or in a list of an older version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    etag: str
    bytes: Annotated[int, Field(ge=0)]
    status: DeltaStatus
    rows: Annotated[int, Field(ge=0)] = 0
    reason: str | None = None
    sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None

    @property
    def content(self) -> Content:
        """The identity of the content that this outcome is about."""
        return Content(self.etag, self.bytes, self.sha256)


class QuarantineReason(BaseModel):
    """The JSON beside a quarantined delta. `quarantined_at` is in Unix seconds, `execution` is an ARN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    delta: str
    reason: str
    quarantined_at: float
    execution: str
    etag: str


_OUTCOMES = TypeAdapter(list[DeltaOutcome])


def encode_outcomes(outcomes: Iterable[DeltaOutcome]) -> bytes:
    """Return a batch's report: a JSON list."""
    return _OUTCOMES.dump_json(list(outcomes))


def decode_outcomes(body: bytes, key: str = "the list of outcomes") -> list[DeltaOutcome]:
    """Parse the report of a batch under `key`. Raises NewerFormatError, pydantic.ValidationError if it is invalid."""
    try:
        return _OUTCOMES.validate_json(body)
    except ValidationError:
        # The list has no number, so an object that has one is of a later format.
        check_format(body, key, newest=1)
        raise


def pack_outcomes(outcomes: Iterable[DeltaOutcome]) -> bytes:
    """Return the gzipped list that a snapshot keeps. Equal outcomes give equal bytes."""
    return gzip.compress(encode_outcomes(outcomes), mtime=0)


def unpack_outcomes(body: bytes, key: str = "the list of outcomes") -> list[DeltaOutcome]:
    """Parse a snapshot's list of merged deltas, stored under `key`. Raises the errors of `decode_outcomes`."""
    return decode_outcomes(gzip.decompress(body), key)
