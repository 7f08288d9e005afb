"""What holds for every test."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings

from tests.reliability_report import count, pytest_addoption, pytest_terminal_summary

__all__ = ["count", "pytest_addoption", "pytest_terminal_summary"]

# How long an example takes says something of the machine, nothing of the code. The parent is Hypothesis's own profile
# for servers where it finds itself on one.
settings.register_profile("any-machine", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


def pytest_collection_finish() -> None:
    """Let the collector leave alone what stays till the end, modules and tests: it would take a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
