"""The rules that start the workflow, and those that follow an execution: one releases a lock, one opens snapshots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import pulumi
from pulumi_aws import cloudwatch, lambda_, sfn

from infra.config import CompactionConfig
from infra.iam_policies import start_workflow, trust
from infra.iam_roles import ServiceRole
from infra.names import StackNames
from infra.sqs_queue import DAY_SECONDS
from infra.undelivered import PREFETCH_AGE

# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_RetryPolicy.html
MOST_RETRIES = 185
UNFINISHED = ("FAILED", "TIMED_OUT", "ABORTED")


class CompactionSchedule(pulumi.ComponentResource):
    """Start an execution on schedule. When compaction is switched off, the rule stays, disabled."""

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        state_machine: sfn.StateMachine,
        undelivered: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name, logical = names.schedule_rule, "chromadb-compaction-schedule"
        super().__init__("chromadb:workflow:CompactionSchedule", logical, opts=opts)
        rule = cloudwatch.EventRule(
            logical,
            name=name,
            description="Starts a compaction. It ends at once if another one is running",
            schedule_expression=config.compaction_schedule,
            state=_state(config),
            opts=pulumi.ResourceOptions(parent=self),
        )
        target = _Target(state_machine.arn, undelivered)
        _start_by(rule, name, logical, shared=(names, config), target=target, parent=self)
        self.register_outputs({"rule": rule.name})


class EarlyStart(pulumi.ComponentResource):
    """Start an execution when the backlog alarm goes off, so that compaction follows the load.

    An alarm starts one execution. If the backlog outlasts it, the schedule continues.
    """

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        alarm: cloudwatch.MetricAlarm,
        state_machine: sfn.StateMachine,
        undelivered: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name, logical = names.early_rule, "chromadb-early-start"
        super().__init__("chromadb:workflow:EarlyStart", logical, opts=opts)
        rule = cloudwatch.EventRule(
            logical,
            name=name,
            description="Starts a compaction early, because a backlog is building up",
            event_pattern=alarm.arn.apply(lambda arn: json.dumps(alarm_raised(arn))),
            state=_state(config),
            opts=pulumi.ResourceOptions(parent=self),
        )
        target = _Target(state_machine.arn, undelivered)
        _start_by(rule, name, logical, shared=(names, config), target=target, parent=self)
        self.register_outputs({"rule": rule.name})


class LockReleaseRule(pulumi.ComponentResource):
    """Call ReleaseLock for every execution that failed, timed out or was aborted. It checks the owner."""

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        state_machine: sfn.StateMachine,
        release_lock: lambda_.Alias,
        undelivered: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name, logical = names.unfinished_rule, "chromadb-compaction-unfinished"
        super().__init__("chromadb:workflow:LockReleaseRule", logical, opts=opts)
        child = pulumi.ResourceOptions(parent=self)
        rule = cloudwatch.EventRule(
            logical,
            name=name,
            description="Releases the lock of an execution that failed, timed out or was aborted",
            event_pattern=state_machine.arn.apply(lambda arn: json.dumps(ended_executions(arn, UNFINISHED))),
            opts=child,
        )
        _call_by(
            rule,
            logical,
            statement="unfinished-executions",
            function=release_lock,
            parent=self,
            target=cloudwatch.EventTargetArgs(
                rule=rule.name,
                target_id="release-lock",
                arn=release_lock.arn,
                # EventBridge adds the quotes around a string.
                input_transformer=cloudwatch.EventTargetInputTransformerArgs(
                    input_paths={"execution": "$.detail.executionArn"}, input_template='{"execution": <execution>}'
                ),
                # The lease of an execution that ended longer ago has expired.
                retry_policy=cloudwatch.EventTargetRetryPolicyArgs(
                    maximum_event_age_in_seconds=min(DAY_SECONDS, 60 * config.lock_timeout_minutes),
                    maximum_retry_attempts=MOST_RETRIES,
                ),
                dead_letter_config=cloudwatch.EventTargetDeadLetterConfigArgs(arn=undelivered),
            ),
        )
        self.register_outputs({"rule": rule.name})


class PrefetchRule(pulumi.ComponentResource):
    """Let the query function open what an execution has published, so that no query waits for its download.

    An execution that has published nothing succeeds too: then nothing is downloaded. If compaction is switched off, an
    execution that is started by hand still calls the function.
    """

    def __init__(
        self,
        names: StackNames,
        *,
        state_machine: sfn.StateMachine,
        query: lambda_.Alias,
        undelivered: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name, logical = names.prefetch_rule, "chromadb-prefetch"
        super().__init__("chromadb:workflow:PrefetchRule", logical, opts=opts)
        rule = cloudwatch.EventRule(
            logical,
            name=name,
            description="Lets the query function open what an execution has published",
            event_pattern=state_machine.arn.apply(lambda arn: json.dumps(ended_executions(arn, ("SUCCEEDED",)))),
            opts=pulumi.ResourceOptions(parent=self),
        )
        _call_by(
            rule,
            logical,
            statement="prefetch",
            function=query,
            parent=self,
            target=cloudwatch.EventTargetArgs(
                rule=rule.name,
                target_id="prefetch",
                arn=query.arn,
                input=json.dumps({"action": "prefetch"}),
                retry_policy=cloudwatch.EventTargetRetryPolicyArgs(
                    maximum_event_age_in_seconds=PREFETCH_AGE, maximum_retry_attempts=3
                ),
                dead_letter_config=cloudwatch.EventTargetDeadLetterConfigArgs(arn=undelivered),
            ),
        )
        self.register_outputs({"rule": rule.name})


def ended_executions(state_machine_arn: str, status: Sequence[str]) -> dict[str, object]:
    """Return the event pattern of this state machine's executions that ended with one of the statuses.

    https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
    """
    return {
        "source": ["aws.states"],
        "detail-type": ["Step Functions Execution Status Change"],
        "detail": {"status": list(status), "stateMachineArn": [state_machine_arn]},
    }


def alarm_raised(alarm_arn: str) -> dict[str, object]:
    """Return the event pattern for this alarm when it goes off."""
    return {
        "source": ["aws.cloudwatch"],
        "detail-type": ["CloudWatch Alarm State Change"],
        "resources": [alarm_arn],
        "detail": {"state": {"value": ["ALARM"]}},
    }


def _state(config: CompactionConfig) -> str:
    return "ENABLED" if config.enable_compaction else "DISABLED"


class _Target(NamedTuple):
    """The ARNs of the workflow to start, and of the queue for the events of starts that failed."""

    state_machine: pulumi.Output[str]
    undelivered: pulumi.Input[str]


def _start_by(
    rule: cloudwatch.EventRule,
    name: str,
    logical: str,
    *,
    shared: tuple[StackNames, CompactionConfig],
    target: _Target,
    parent: pulumi.Resource,
) -> None:
    names, config = shared
    role = ServiceRole(
        name,
        logical=f"{logical}-role",
        # https://docs.aws.amazon.com/eventbridge/latest/userguide/cross-service-confused-deputy-prevention.html
        trusted=trust("events.amazonaws.com", account=names.account, source=names.rule_arn(name)),
        config=config,
        statements=target.state_machine.apply(start_workflow),
        opts=pulumi.ResourceOptions(parent=parent),
    )
    cloudwatch.EventTarget(
        f"{logical}-target",
        rule=rule.name,
        target_id="compaction",
        arn=target.state_machine,
        role_arn=role.arn,
        # Without an input, the whole event would become the execution's input.
        input="{}",
        # The next scheduled start replaces one that is late.
        retry_policy=cloudwatch.EventTargetRetryPolicyArgs(maximum_event_age_in_seconds=300, maximum_retry_attempts=3),
        dead_letter_config=cloudwatch.EventTargetDeadLetterConfigArgs(arn=target.undelivered),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[role.policy]),
    )


def _call_by(
    rule: cloudwatch.EventRule,
    logical: str,
    *,
    statement: str,
    function: lambda_.Alias,
    target: cloudwatch.EventTargetArgs,
    parent: pulumi.Resource,
) -> None:
    """Let the rule, and no other, call the alias."""
    permission = lambda_.Permission(
        f"{logical}-permission",
        statement_id=statement,
        action="lambda:InvokeFunction",
        function=function.function_name,
        # A permission for an alias allows the alias only.
        qualifier=function.name,
        principal="events.amazonaws.com",
        source_arn=rule.arn,
        opts=pulumi.ResourceOptions(parent=parent),
    )
    opts = pulumi.ResourceOptions(parent=parent, depends_on=[permission])
    cloudwatch.EventTarget(f"{logical}-target", target, opts=opts)
