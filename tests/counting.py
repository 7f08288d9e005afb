"""Counts that tests add up as they go, printed when all have run: so many states, so many interleavings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest

Count = Callable[[str, int], None]
"""Adds a number to the sum of that name."""

PROPERTY = "counted: "


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    """Give what adds to a sum. It travels with the test's report, so that it arrives from other processes too."""
    return lambda name, number: record_property(PROPERTY + name, number)


def sums(reports: Iterable[object]) -> Iterator[str]:
    """Yield one line for each sum."""
    total: Counter[str] = Counter()
    for report in reports:
        for name, number in getattr(report, "user_properties", []):
            if name.startswith(PROPERTY) and getattr(report, "when", "") == "call":
                total[name.removeprefix(PROPERTY)] += number
    for name, number in sorted(total.items()):
        yield f"{number:>12,} {name}"
