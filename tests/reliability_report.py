"""The counts of the reliability tests: printed at the end, and written as JSON with `--reliability-report FILE`.

A test reports counts with `record_property(RELIABILITY, {"part": ..., "name": ..., "runs": 7, ...})`, or with the
fixture `count`. Counts with the same part and name are added up.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

RELIABILITY = "reliability"
OPTION = "--reliability-report"
COUNTED = "counted"

Count = Callable[[str, str, int], None]
"""Adds a number to the count of a name in a part of the report: `count(part, name, number)`."""


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    """Return a function that counts. Counts travel with the test's report, also from pytest-xdist's processes."""
    return lambda part, name, number: record_property(RELIABILITY, {"part": part, "name": name, COUNTED: number})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, metavar="FILE", type=Path, help="write what the reliability tests counted, as JSON")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    parts = _parts(terminalreporter)
    for part, counted in sorted(parts.items()):
        terminalreporter.section(part)
        for line in _lines(counted):
            terminalreporter.write_line(line)
    target = config.getoption(OPTION)
    if target:
        target.write_text(json.dumps(parts, indent=2, sort_keys=True) + "\n")


def _lines(counted: list[dict[str, Any]]) -> Iterator[str]:
    sums = [counts for counts in counted if COUNTED in counts]
    for counts in sums:
        yield f"{counts['name']}: {counts[COUNTED]:,}"
    rows = [counts for counts in counted if COUNTED not in counts]
    for counts in [*rows, *([_total(rows)] if rows else [])]:
        numbers = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in _numbers(counts).items())
        yield f"{counts['name']}: {numbers}"


def _parts(reporter: pytest.TerminalReporter) -> dict[str, list[dict[str, Any]]]:
    """Return the reported counts by part, in the order of names."""
    parts: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for outcome in ("passed", "failed"):
        for report in reporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == RELIABILITY and report.when == "call":
                    part = parts[value["part"]]
                    reported = {key: each for key, each in value.items() if key != "part"}
                    known = part.get(value["name"])
                    part[value["name"]] = reported if known is None else _added(known, reported)
    return {part: [named[name] for name in sorted(named)] for part, named in parts.items()}


def _added(known: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {**known, **{name: known.get(name, 0) + value for name, value in _numbers(more).items()}}


def _total(counted: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {"name": "all together"}
    for counts in counted:
        for name, value in _numbers(counts).items():
            total[name] = total.get(name, 0) + value
    return total


def _numbers(counts: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in counts.items() if isinstance(value, int)}
