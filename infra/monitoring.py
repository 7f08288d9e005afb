"""The topic, the alarms and the dashboard, as Pulumi resources."""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import cloudwatch, sns

from infra.alarms import AlarmSpec, alarm_specs, early_start_spec
from infra.config import CompactionConfig
from infra.dashboard import dashboard_body
from infra.iam_policies import document
from infra.iam_service_policies import notify_topic
from infra.metric_stats import MetricStat
from infra.names import StackNames


class AlarmTopic(pulumi.ComponentResource):
    """The topic that every alarm notifies: the configured one, or one of the stack's own."""

    arn: pulumi.Input[str]

    def __init__(
        self, names: StackNames, config: CompactionConfig, *, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("chromadb:monitoring:AlarmTopic", "chromadb-alarms", opts=opts)
        self.arn = config.alarm_topic_arn or self._create(names, config)
        if config.alarm_email:
            # SNS notifies the address only after it has confirmed the subscription.
            sns.TopicSubscription(
                "chromadb-alarm-email",
                topic=self.arn,
                protocol="email",
                endpoint=config.alarm_email,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({"arn": self.arn})

    def _create(self, names: StackNames, config: CompactionConfig) -> pulumi.Output[str]:
        # Not encrypted: CloudWatch may not use SNS's own key, and a notification holds no data of the collections.
        # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
        topic = sns.Topic("chromadb-alarm-topic", name=names.alarm_topic, opts=pulumi.ResourceOptions(parent=self))
        sns.TopicPolicy(
            "chromadb-alarm-topic-policy",
            arn=topic.arn,
            policy=topic.arn.apply(
                lambda arn: json.dumps(document(notify_topic(arn, names, budget=config.monthly_budget is not None)))
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return topic.arn


class Monitoring(pulumi.ComponentResource):
    """The alarms for operators, the backlog alarm for EventBridge, and one dashboard."""

    topic: pulumi.Input[str]
    """The ARN of the topic that alarms notify."""
    early_start: cloudwatch.MetricAlarm | None
    """The alarm that starts a compaction early. None if early starts are switched off."""

    def __init__(
        self, names: StackNames, config: CompactionConfig, *, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("chromadb:monitoring:Monitoring", "chromadb-monitoring", opts=opts)
        self._names = names
        self.topic = AlarmTopic(names, config, opts=pulumi.ResourceOptions(parent=self)).arn
        for spec in alarm_specs(names, config):
            self._alarm(spec, [self.topic])
        early = early_start_spec(names, config)
        self.early_start = self._alarm(early, []) if early else None
        cloudwatch.Dashboard(
            "chromadb-dashboard",
            dashboard_name=names.state_machine,
            dashboard_body=json.dumps(dashboard_body(names, config)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})

    def _alarm(self, spec: AlarmSpec, topics: list[pulumi.Input[str]]) -> cloudwatch.MetricAlarm:
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
            treat_missing_data=spec.missing,
            warm_up_configuration=_warm_up(spec.warm_up_minutes) if spec.warm_up_minutes else None,
            alarm_actions=topics,
            ok_actions=topics,
            opts=pulumi.ResourceOptions(parent=self),
        )


def _warm_up(minutes: int) -> cloudwatch.MetricAlarmWarmUpConfigurationArgs:
    return cloudwatch.MetricAlarmWarmUpConfigurationArgs(
        warm_up_period_duration_in_minutes=minutes, only_start_evaluating_after_warm_up_period_ends=True
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
