"""Where a task's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


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
