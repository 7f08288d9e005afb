"""The rule that decides when a collection is due to be merged, from the sizes and the age of its pending deltas."""

from __future__ import annotations

from typing import NamedTuple

from chromadb_compaction.settings import Settings

BOUND_SHARE = 2
"""A collection is due at one half of each bound of a fresh read. The other half is for what comes before its merge."""


class PendingSize(NamedTuple):
    """The size of a collection's pending deltas, or of some of them.

    Attributes:
        deltas: The number of deltas.
        bytes: The bytes that S3 lists.
        oldest: When the oldest was written, in Unix seconds.
        rows: The number of rows. 0 if they are not counted.
        unpacked_bytes: The bytes in memory. 0 if they are not counted.
    """

    deltas: int = 0
    bytes: int = 0
    oldest: float = float("inf")
    rows: int = 0
    unpacked_bytes: int = 0

    def __or__(self, other: PendingSize) -> PendingSize:
        """Return the size of both together."""
        return PendingSize(
            self.deltas + other.deltas,
            self.bytes + other.bytes,
            min(self.oldest, other.oldest),
            self.rows + other.rows,
            self.unpacked_bytes + other.unpacked_bytes,
        )


class DeferralRule(NamedTuple):
    """The least that a pass merges of a collection. With all minimums 0, every collection is always due.

    Otherwise a collection is due as soon as one of these holds: it has `min_rows` rows or `min_bytes` bytes (of those
    that are not 0), or its oldest delta is `max_age_seconds` old, or it has half as many deltas, rows or bytes as a
    fresh read joins with the snapshot.

    Attributes:
        min_rows: The number of rows. 0: no number of rows is enough.
        min_bytes: The bytes that S3 lists. 0: no number of bytes is enough.
        max_age_seconds: The greatest age of a delta that waits. 0 only if both others are 0.
        bounds: The number of deltas, rows and bytes at which a collection is due in any case. Its age is not used.
    """

    min_rows: int
    min_bytes: int
    max_age_seconds: float
    bounds: PendingSize

    @property
    def defers(self) -> bool:
        """True if a collection may have to wait."""
        return self.max_age_seconds > 0

    def is_due(self, size: PendingSize, now: float) -> bool:
        """Return whether a collection with pending deltas of this size is due. A greater size is never due later."""
        return (
            not self.defers
            or now - size.oldest >= self.max_age_seconds
            or 0 < self.min_rows <= size.rows
            or 0 < self.min_bytes <= size.bytes
            or size.deltas >= self.bounds.deltas
            or size.rows >= self.bounds.rows
            or max(size.bytes, size.unpacked_bytes) >= self.bounds.bytes
        )


def rule_of(settings: Settings) -> DeferralRule:
    """Return the rule that the settings state."""
    return DeferralRule(
        min_rows=settings.compaction_min_rows,
        min_bytes=settings.compaction_min_bytes,
        max_age_seconds=60 * settings.compaction_max_age_minutes,
        bounds=PendingSize(
            deltas=max(1, settings.pending_deltas // BOUND_SHARE),
            rows=max(1, settings.pending_rows // BOUND_SHARE),
            bytes=max(1, settings.pending_bytes // BOUND_SHARE),
        ),
    )
