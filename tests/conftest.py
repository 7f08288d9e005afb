"""What holds for every test."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.counting import count, sums

__all__ = ["count"]

# How long an example takes says something of the machine, nothing of the code. The parent is Hypothesis's own profile
# for servers where it finds itself on one.
settings.register_profile("any-machine", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests have counted."""
    lines = list(sums(report for reports in terminalreporter.stats.values() for report in reports))
    if lines:
        terminalreporter.section("counted")
        for line in lines:
            terminalreporter.line(line)
