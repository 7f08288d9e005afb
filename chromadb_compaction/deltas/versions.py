"""Which of two rows for the same id is newer, and whether a delta's name may say so."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from chromadb_compaction.errors import CorruptDeltaError

FUTURE_TOLERANCE_SECONDS = 3600
"""How far a name's time may lie ahead of S3's clock: an hour, more than any sane clock is wrong."""


class Version(NamedTuple):
    """Total order of updates: the delta's UUIDv7, then the row within it.

    Ties can only come from the same name written twice with different content. They are broken by
    fingerprint, so that the outcome never depends on the order of arrival; a delete's fingerprint is all
    zeros and therefore loses.
    """

    delta: bytes
    row: int
    fingerprint: bytes


def uuid7_seconds(delta_id: UUID) -> float:
    """Return the Unix time in seconds that a UUIDv7 carries in its first 48 bits (RFC 9562, section 5.7)."""
    return (delta_id.int >> 80) / 1000


def parse_delta_id(text: str, *, now: float) -> UUID:
    """Return the UUIDv7 that `text` spells in canonical lower-case form.

    `now` is S3's clock in Unix seconds. Raises CorruptDeltaError for any other name, and for a time more
    than an hour ahead: the name orders updates, and a version from the future would win for ever.
    """
    try:
        delta_id = UUID(text)
    except ValueError as error:
        raise CorruptDeltaError(f"the name {text!r} is not a UUIDv7; write the delta under a fresh UUIDv7") from error
    if delta_id.version != 7 or str(delta_id) != text:
        raise CorruptDeltaError(
            f"the name {text!r} is not a UUIDv7 in lower-case canonical form; write the delta under a fresh UUIDv7"
        )
    ahead = uuid7_seconds(delta_id) - now
    if ahead > FUTURE_TOLERANCE_SECONDS:
        raise CorruptDeltaError(
            f"the name {text!r} carries a time {ahead:.0f} s ahead of S3's clock, and would win over every later"
            " update; set the producer's clock right and write the delta again"
        )
    return delta_id
