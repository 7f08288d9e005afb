"""What the reliability tests counted: printed at the end, and with `--reliability-report FILE` written as JSON.

A test hands its counts in with `record_property(RELIABILITY, {"part": ..., "name": ..., "runs": 7, ...})`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

RELIABILITY = "reliability"
OPTION = "--reliability-report"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, metavar="FILE", type=Path, help="write what the reliability tests counted, as JSON")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    parts = _parts(terminalreporter)
    for part, counted in sorted(parts.items()):
        terminalreporter.section(part)
        for counts in [*counted, _total(counted)]:
            numbers = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in _numbers(counts).items())
            terminalreporter.write_line(f"{counts['name']}: {numbers}")
    target = config.getoption(OPTION)
    if target:
        target.write_text(json.dumps(parts, indent=2, sort_keys=True) + "\n")


def _parts(reporter: pytest.TerminalReporter) -> dict[str, list[dict[str, Any]]]:
    """Return what was handed in, by part, in the order of names; from other processes' tests too."""
    parts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for outcome in ("passed", "failed"):
        for report in reporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == RELIABILITY and report.when == "call":
                    parts[value["part"]].append({key: each for key, each in value.items() if key != "part"})
    return {part: sorted(counted, key=lambda counts: str(counts["name"])) for part, counted in parts.items()}


def _total(counted: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {"name": "all together"}
    for counts in counted:
        for name, value in _numbers(counts).items():
            total[name] = total.get(name, 0) + value
    return total


def _numbers(counts: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in counts.items() if isinstance(value, int)}
