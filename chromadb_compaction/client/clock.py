"""The names of deltas, and the warnings for a producer whose clock is wrong: its time is the version of its rows."""

from __future__ import annotations

import secrets
from typing import Final
from uuid import UUID

import uuid_utils

from chromadb_compaction.deltas.versions import FUTURE_TOLERANCE_SECONDS, uuid7_at, uuid7_seconds

TOLERATED_SECONDS: Final = 60.0
"""A clock that NTP keeps is right within a second. S3's Date has whole seconds, and a response takes its time."""
CLOCK_TOLERANCE_SECONDS: Final = 5.0
"""The most that a name may be ahead of this machine's clock, which may be set back a little at any time."""
MINUTE: Final = 60
HOUR: Final = 3600


def clock_warning(ahead: float | None) -> str | None:
    """Return the warning for a clock that is `ahead` seconds ahead of S3's, or behind it. None: it is right enough.

    An unknown difference, None, gives no warning.
    """
    if ahead is None or abs(ahead) <= TOLERATED_SECONDS:
        return None
    amount = _amount(abs(ahead))
    if ahead > FUTURE_TOLERANCE_SECONDS:
        effect = "so its deltas go to quarantine"
    elif ahead > 0:
        effect = "so its rows win over newer rows of other producers"
    else:
        effect = "so rows that other producers wrote before win over its rows"
    return (
        f"this machine's clock is {amount} {'ahead of' if ahead > 0 else 'behind'} S3's, {effect};"
        " correct the clock (NTP), then write the rows again"
    )


def following_id(last: UUID, now: float) -> tuple[UUID, str | None]:
    """Return a new UUIDv7, later than the last one even if the clock was set back a little, and a warning or None.

    If it was set back further, after it had been ahead, the name has the time of now: rows from the future would win
    over the updates of everybody else.
    """
    later = UUID(int=last.int + 1)
    following = max(UUID(int=uuid_utils.uuid7().int), later)
    if uuid7_seconds(following) <= now + CLOCK_TOLERANCE_SECONDS:
        return following, None
    following = uuid7_at(now, secrets.randbits(74))
    ahead = uuid7_seconds(last) - now
    if ahead <= CLOCK_TOLERANCE_SECONDS:
        return max(following, later), None
    return following, (
        f"the clock was set back: this writer's last delta has a time {ahead:.0f} s ahead, and wins over its next ones"
        " until then"
    )


def id_to_follow(last: UUID, other: UUID, now: float) -> UUID:
    """Return the later of the last delta's name and one of another writer, whose clock may be a little ahead.

    A name that is further ahead than clocks differ is ignored: rows from the future win in any case.
    """
    return last if uuid7_seconds(other) > now + CLOCK_TOLERANCE_SECONDS else max(last, other)


def _amount(seconds: float) -> str:
    whole = round(seconds)
    if whole >= HOUR:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // MINUTE} min {whole % MINUTE} s"
