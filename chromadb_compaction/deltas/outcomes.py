"""What became of each delta of a pass: written by MergeBatch, carried into the snapshot, carried out by CleanUp."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

LONGEST_REASON = 2000
"""Characters: a reason quotes what it found, and a hostile file can make that megabytes."""

DeltaStatus = Literal["merged", "quarantined", "missing"]


class DeltaOutcome(BaseModel):
    """One delta as it was listed, and what MergeBatch made of it.

    `missing`: it was gone or had changed since the listing, so nothing of it was used. `rows` counts the rows
    of a merged delta; `reason` says why a quarantined one was refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    etag: str
    bytes: Annotated[int, Field(ge=0)]
    status: DeltaStatus
    rows: Annotated[int, Field(ge=0)] = 0
    reason: str | None = None


class QuarantineReason(BaseModel):
    """The stored JSON beside a quarantined delta. `quarantined_at` is Unix seconds, `execution` an ARN."""

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


def decode_outcomes(body: bytes) -> list[DeltaOutcome]:
    """Parse a batch's report. Raises pydantic.ValidationError for anything else."""
    return _OUTCOMES.validate_json(body)


def pack_outcomes(outcomes: Iterable[DeltaOutcome]) -> bytes:
    """Return the list that a snapshot keeps, gzipped; equal outcomes give equal bytes."""
    return gzip.compress(encode_outcomes(outcomes), mtime=0)


def unpack_outcomes(body: bytes) -> list[DeltaOutcome]:
    """Parse a snapshot's list of merged deltas."""
    return decode_outcomes(gzip.decompress(body))
