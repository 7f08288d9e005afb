"""The alarms and the dashboard, as Pulumi resources."""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import cloudwatch

from infra.alarms import AlarmSpec, MetricStat, alarm_specs, early_start_spec
from infra.config import CompactionConfig
from infra.dashboard import dashboard_body
from infra.names import StackNames


class Monitoring(pulumi.ComponentResource):
    """The alarms for operators, the backlog alarm for EventBridge, and one dashboard."""

    early_start: cloudwatch.MetricAlarm | None
    """The alarm that starts a compaction early. None if early starts are switched off."""

    def __init__(
        self, names: StackNames, config: CompactionConfig, *, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("chromadb:monitoring:Monitoring", "chromadb-monitoring", opts=opts)
        self._names = names
        topics = [config.alarm_topic_arn] if config.alarm_topic_arn else []
        for spec in alarm_specs(names, config):
            self._alarm(spec, topics)
        early = early_start_spec(names, config)
        self.early_start = self._alarm(early, []) if early else None
        cloudwatch.Dashboard(
            "chromadb-dashboard",
            dashboard_name=names.state_machine,
            dashboard_body=json.dumps(dashboard_body(names, config)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})

    def _alarm(self, spec: AlarmSpec, topics: list[str]) -> cloudwatch.MetricAlarm:
        return cloudwatch.MetricAlarm(
            f"chromadb-{spec.name}-alarm",
            name=self._names.alarm(spec.name),
            alarm_description=spec.description,
            comparison_operator="GreaterThanOrEqualToThreshold",
            threshold=1,
            evaluation_periods=spec.periods,
            metric_queries=[
                *(_query(name, metric, spec.period) for name, metric in spec.metrics.items()),
                cloudwatch.MetricAlarmMetricQueryArgs(
                    id="raised", expression=spec.expression, label=spec.name, return_data=True
                ),
            ],
            # Without new deltas the tasks write no metrics, and the stack is healthy.
            treat_missing_data="notBreaching",
            alarm_actions=topics,
            ok_actions=topics,
            opts=pulumi.ResourceOptions(parent=self),
        )


def _query(name: str, metric: MetricStat, period: int) -> cloudwatch.MetricAlarmMetricQueryArgs:
    return cloudwatch.MetricAlarmMetricQueryArgs(
        id=name,
        metric=cloudwatch.MetricAlarmMetricQueryMetricArgs(
            namespace=metric.namespace,
            metric_name=metric.name,
            dimensions=metric.dimensions,
            stat=metric.stat,
            period=period,
        ),
        return_data=False,
    )
