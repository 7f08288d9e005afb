"""The name of a delta: a UUIDv7. It is the version of its rows, so its time must be plausible."""

from __future__ import annotations

from uuid import UUID

from chromadb_compaction.errors import CorruptDeltaError

_RENAME = "write the delta again under a new UUIDv7"
FUTURE_TOLERANCE_SECONDS = 3600
"""The most that a name's time may be ahead of S3's clock: an hour, more than a maintained clock is wrong."""


def uuid7_seconds(delta_id: UUID) -> float:
    """Return the Unix time in seconds that a UUIDv7 carries in its first 48 bits (RFC 9562, section 5.7)."""
    return (delta_id.int >> 80) / 1000


def uuid7_at(seconds: float, random: int) -> UUID:
    """Return the UUIDv7 of a Unix time with 74 `random` bits."""
    high, low = random >> 62 & 0xFFF, random & (1 << 62) - 1
    return UUID(int=int(seconds * 1000) << 80 | 7 << 76 | high << 64 | 2 << 62 | low)


def parse_delta_id(text: str, *, now: float) -> UUID:
    """Return the UUIDv7 that `text` is in canonical lower-case form.

    `now` is S3's clock in Unix seconds. Raises CorruptDeltaError for any other name, and for a time more than an hour
    ahead: the name orders updates, so a version from the future would win over all updates until then.
    """
    try:
        delta_id = UUID(text)
    except ValueError as error:
        raise CorruptDeltaError(f"the name {text!r} is not a UUIDv7", next_step=_RENAME) from error
    if delta_id.version != 7 or str(delta_id) != text:
        raise CorruptDeltaError(f"the name {text!r} is not a UUIDv7 in lower-case canonical form", next_step=_RENAME)
    ahead = uuid7_seconds(delta_id) - now
    if ahead > FUTURE_TOLERANCE_SECONDS:
        raise CorruptDeltaError(
            f"the name {text!r} has a time {ahead:.0f} s ahead of S3's clock, so it would win over later updates",
            next_step="correct the producer's clock and write the delta again",
        )
    return delta_id
