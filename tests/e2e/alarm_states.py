"""The states of a stack's alarms, as CloudWatch evaluates them: the local server does not store their metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chromadb_compaction.local.deployment import local_config
from chromadb_compaction.local.server import ACCOUNT, REGION
from infra.alarms import AlarmSpec, alarm_specs
from infra.config import parse_config
from infra.names import StackNames
from tests.metric_math import evaluate
from tests.stack import Stack

Datapoints = Mapping[str, Callable[[int], float | None]]
"""By a metric's name, its value in a period that began so many seconds ago. Other metrics have no data."""


def alarms_of(stack: Stack, config: Mapping[str, str]) -> dict[str, AlarmSpec]:
    """Return the alarms for operators of a stack with this configuration. Raises AssertionError unless it has them."""
    names = StackNames(stack.deployed.name, ACCOUNT, REGION)
    specs = {spec.name: spec for spec in alarm_specs(names, parse_config({**local_config(), **config}))}
    pages = stack.deployed.client("cloudwatch").describe_alarms(AlarmNamePrefix=names.alarm(""))
    deployed = {
        alarm["AlarmName"]: (alarm["AlarmDescription"], alarm["EvaluationPeriods"], alarm["TreatMissingData"])
        for alarm in pages["MetricAlarms"]
        if alarm["AlarmActions"]
    }
    assert deployed == {
        names.alarm(spec.name): (spec.description, spec.periods, spec.missing) for spec in specs.values()
    }
    return specs


def raised(alarm: AlarmSpec, data: Datapoints) -> bool:
    """Return whether every period of an alarm's window is breaching, at a time when its warm-up is over."""
    periods = [_values(alarm, data, number * alarm.period) for number in range(1, alarm.periods + 1)]
    # FILL fills the gaps of a metric that has data somewhere in the window.
    present = {name for values in periods for name, value in values.items() if value is not None}
    return all(_breaches(alarm, values, present) for values in periods)


def _values(alarm: AlarmSpec, data: Datapoints, ago: int) -> dict[str, float | None]:
    return {name: data[metric.name](ago) if metric.name in data else None for name, metric in alarm.metrics.items()}


def _breaches(alarm: AlarmSpec, values: Mapping[str, float | None], present: set[str]) -> bool:
    filled = "FILL(" in alarm.expression
    known = {name: 0 if filled and value is None and name in present else value for name, value in values.items()}
    result = evaluate(alarm.expression, known)
    return alarm.missing == "breaching" if result is None else result
