"""Numbers and times as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

MINUTE = 60
HOUR = 3600
DAY = 86_400
KIBIBYTE = 1024


def duration(seconds: float) -> str:
    """Return e.g. 0.34 s, 12.1 s, 3 min 5 s, 2 h 10 min, 4 d 3 h."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def ago(seconds: float) -> str:
    """Return e.g. "12.1 s ago". A time in the future, from a clock that is ahead, gives "just now"."""
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def local_time(seconds: float) -> str:
    """Return Unix seconds as local time with its offset, e.g. 2026-11-28 14:27:21+01:00."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def clock_time(seconds: float) -> str:
    """Return Unix seconds as local time of day with its offset, e.g. 14:27:21+01:00."""
    return local_time(seconds).partition(" ")[2]


def when(seconds: float, now: float) -> str:
    """Return when something happened, e.g. "2026-11-28 14:27:21+01:00 (12.1 s ago)".

    For a time more than a second in the future, from a clock that is ahead: "(12.1 s ahead of this machine's clock)".
    """
    ahead = f"{duration(seconds - now)} ahead of this machine's clock"
    return f"{local_time(seconds)} ({ahead if seconds - now > 1 else ago(now - seconds)})"


def until(seconds: float, now: float) -> str:
    """Return when something ends, e.g. "2026-11-28 14:27:21+01:00 (12.1 s left)", or how long ago it ended."""
    return f"{local_time(seconds)} ({f'{duration(seconds - now)} left' if seconds > now else ago(now - seconds)})"


def size(count: int) -> str:
    """Return e.g. 512 B, 1.5 KiB, 34.0 MiB."""
    if count < KIBIBYTE:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= KIBIBYTE
        if amount < KIBIBYTE:
            return f"{amount:.1f} {unit}"
    return f"{amount / KIBIBYTE:.1f} TiB"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return e.g. "1 delta", "1,234 deltas"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def some(keys: Sequence[str], limit: int = 20) -> Iterator[str]:
    """Yield an indented line for each of the first `limit` keys, and one that counts the rest."""
    yield from (f"  {key}" for key in keys[:limit])
    if len(keys) > limit:
        yield f"  and {len(keys) - limit:,} more: --json names all"


def one_line(text: str | None, limit: int) -> str:
    """Return `text` on one line, cut to `limit` characters with an ellipsis."""
    flat = " ".join((text or "").split())
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"
