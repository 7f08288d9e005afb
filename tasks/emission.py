"""Emission: write metrics to the log in CloudWatch's embedded metric format, which needs no API call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from aws_lambda_powertools.metrics import EphemeralMetrics

from chromadb_compaction.metrics import NAMESPACE, PHASE, STACK, DataPoint


def emit(metrics: Iterable[DataPoint], *, stack: str, properties: Mapping[str, object]) -> None:
    """Print one line per set of dimensions: one for what only `stack` tells apart, and one for each phase.

    `properties` are added to every line for log searches. They are not dimensions.
    """
    for phase, group in groupby(metrics, key=lambda metric: metric.phase):
        # The shared Metrics class would print what one invocation left behind with the next.
        line = EphemeralMetrics(namespace=NAMESPACE)
        line.add_dimension(STACK, stack)
        if phase is not None:
            line.add_dimension(PHASE, phase)
        for name, value in properties.items():
            line.add_metadata(name, value)
        for metric in group:
            line.add_metric(metric.measure.metric, metric.measure.unit, metric.value)
        line.flush_metrics()
