"""Settings for every test."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings

from tests.reliability_report import count, pytest_addoption, pytest_terminal_summary

__all__ = ["count", "pytest_addoption", "pytest_terminal_summary"]

# The time of an example depends on the machine, not on the code. The parent is the default profile, which Hypothesis
# changes on CI servers. The profile "new-examples" is for searching: `scripts/test --slow` uses it.
settings.register_profile(
    "new-examples", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False
)
# The same code is always tested with the same examples, so that a change fails only by what it changes.
settings.register_profile("same-examples", settings.get_profile("new-examples"), derandomize=True)
settings.load_profile("same-examples")


def pytest_collection_finish() -> None:
    """Exclude modules and collected tests from garbage collection, which would take a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
