"""The warning for a producer whose clock is wrong: its time is the version of its rows."""

from __future__ import annotations

from typing import Final

from chromadb_compaction.deltas.versions import FUTURE_TOLERANCE_SECONDS

TOLERATED_SECONDS: Final = 60.0
"""A clock that NTP keeps is right within a second. S3's Date has whole seconds, and a response takes its time."""
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


def _amount(seconds: float) -> str:
    whole = round(seconds)
    if whole >= HOUR:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // MINUTE} min {whole % MINUTE} s"
