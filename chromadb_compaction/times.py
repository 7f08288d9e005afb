"""Moments as ISO 8601 text, and the seconds of each phase of a task."""

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
"""Unix seconds that a model prints as ISO 8601 in JSON. For results of commands, never for stored objects."""


class Phases:
    """The seconds of each named phase, in the order in which they began."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of the block to the phase `name`, even if the block fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._add(name, time.perf_counter() - started)

    def include(self, parts: Mapping[str, float], *, of: str) -> None:
        """Add the phases that a part of the work measured, e.g. those of the fold as fold.plan, fold.load..."""
        for name, seconds in parts.items():
            self._add(f"{of}.{name}", seconds)

    @property
    def seconds(self) -> dict[str, float]:
        """All phases, rounded to milliseconds. Parts that ran at the same time may add up to more than the whole."""
        return {name: round(seconds, 3) for name, seconds in self._seconds.items()}

    @property
    def total(self) -> float:
        """The sum of all phases that are not parts of others."""
        return round(sum(seconds for name, seconds in self._seconds.items() if "." not in name), 3)

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
