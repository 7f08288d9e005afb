"""The metrics in the logs of deployed functions."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.stack import Stack


class EmittedMetric(NamedTuple):
    """One metric as CloudWatch reads it from a log line."""

    name: str
    unit: str
    dimensions: dict[str, str]
    values: list[float]
    execution: str | None


def emitted(stack: Stack) -> list[EmittedMetric]:
    """Return every metric in the logs of this stack's functions, as CloudWatch reads them."""
    return [
        EmittedMetric(
            metric["Name"],
            metric["Unit"],
            {name: line[name] for name in directive["Dimensions"][0]},
            line[metric["Name"]],
            line.get("execution"),
        )
        for line in emf_lines(stack)
        for directive in line["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
    ]


def emf_lines(stack: Stack) -> list[dict[str, Any]]:
    """Return the log lines that hold metrics, since the last mark."""
    lines = "".join(stack.new_logs().values()).splitlines()
    return [json.loads(line) for line in lines if '"_aws"' in line]
