"""Time as every room needs it: moments as ISO 8601 text, and the seconds of each phase of a task."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

from pydantic import PlainSerializer


def iso_time(seconds: float) -> str:
    """Return Unix seconds as ISO 8601 in UTC, such as 2026-11-28T13:27:21Z, with milliseconds if there are any."""
    precision = "milliseconds" if seconds % 1 else "seconds"
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


Moment = Annotated[float, PlainSerializer(iso_time, return_type=str, when_used="json")]
"""Unix seconds that a model prints as ISO 8601 in JSON. For what people and programs read, never for stored objects."""


class Phases:
    """Seconds per named phase, in the order in which they began."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the block's time as `name`'s, also if it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._add(name, time.perf_counter() - started)

    def include(self, parts: Mapping[str, float], *, of: str) -> None:
        """Count what a part of the work measured by itself, e.g. the fold's phases as fold.plan, fold.load..."""
        for name, seconds in parts.items():
            self._add(f"{of}.{name}", seconds)

    @property
    def seconds(self) -> dict[str, float]:
        """All phases, rounded to milliseconds. Those of parts that ran at once may add up to more than has passed."""
        return {name: round(seconds, 3) for name, seconds in self._seconds.items()}

    @property
    def total(self) -> float:
        """The seconds of all phases that are no parts of others."""
        return round(sum(seconds for name, seconds in self._seconds.items() if "." not in name), 3)

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
