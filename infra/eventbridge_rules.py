"""What starts the workflow, and what releases its lock when it could not do so itself."""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import cloudwatch, lambda_, sfn

from infra.config import CompactionConfig
from infra.iam_policies import start_workflow
from infra.iam_roles import ServiceRole
from infra.names import StackNames

UNFINISHED = ("FAILED", "TIMED_OUT", "ABORTED")


class CompactionSchedule(pulumi.ComponentResource):
    """Starts an execution regularly. Switched off, the rule stays and shows its schedule."""

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        state_machine: sfn.StateMachine,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name, logical = f"{names.state_machine}-schedule", "chromadb-compaction-schedule"
        super().__init__("chromadb:workflow:CompactionSchedule", logical, opts=opts)
        rule = cloudwatch.EventRule(
            logical,
            name=name,
            description="Starts a compaction; one that is running already makes the new one end at once",
            schedule_expression=config.compaction_schedule,
            state=_state(config),
            opts=pulumi.ResourceOptions(parent=self),
        )
        _start_by(rule, name, logical, state_machine=state_machine, parent=self)
        self.register_outputs({"rule": rule.name})


class EarlyStart(pulumi.ComponentResource):
    """Starts an execution when the backlog's alarm goes off, so that compaction follows the load.

    Once per alarm: if the backlog outlasts that execution, the schedule goes on with it.
    """

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        alarm: cloudwatch.MetricAlarm,
        state_machine: sfn.StateMachine,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name, logical = f"{names.state_machine}-early", "chromadb-early-start"
        super().__init__("chromadb:workflow:EarlyStart", logical, opts=opts)
        rule = cloudwatch.EventRule(
            logical,
            name=name,
            description="Starts a compaction before its time, because a backlog builds",
            event_pattern=alarm.arn.apply(lambda arn: json.dumps(alarm_raised(arn))),
            state=_state(config),
            opts=pulumi.ResourceOptions(parent=self),
        )
        _start_by(rule, name, logical, state_machine=state_machine, parent=self)
        self.register_outputs({"rule": rule.name})


class LockReleaseRule(pulumi.ComponentResource):
    """Calls ReleaseLock for every execution that failed, timed out or was aborted; only the owner's lock goes."""

    def __init__(
        self,
        names: StackNames,
        *,
        state_machine: sfn.StateMachine,
        release_lock: lambda_.Function,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name, logical = f"{names.state_machine}-unfinished", "chromadb-compaction-unfinished"
        super().__init__("chromadb:workflow:LockReleaseRule", logical, opts=opts)
        child = pulumi.ResourceOptions(parent=self)
        rule = cloudwatch.EventRule(
            logical,
            name=name,
            description="Releases the lock of an execution that ended without doing so itself",
            event_pattern=state_machine.arn.apply(lambda arn: json.dumps(unfinished_executions(arn))),
            opts=child,
        )
        permission = lambda_.Permission(
            f"{logical}-permission",
            statement_id="unfinished-executions",
            action="lambda:InvokeFunction",
            function=release_lock.name,
            principal="events.amazonaws.com",
            source_arn=rule.arn,
            opts=child,
        )
        cloudwatch.EventTarget(
            f"{logical}-target",
            rule=rule.name,
            target_id="release-lock",
            arn=release_lock.arn,
            # EventBridge puts the quotes around a string itself.
            input_transformer=cloudwatch.EventTargetInputTransformerArgs(
                input_paths={"execution": "$.detail.executionArn"}, input_template='{"execution": <execution>}'
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[permission]),
        )
        self.register_outputs({"rule": rule.name})


def unfinished_executions(state_machine_arn: str) -> dict[str, object]:
    """Return the event pattern of this state machine's executions that did not succeed."""
    return {
        "source": ["aws.states"],
        "detail-type": ["Step Functions Execution Status Change"],
        "detail": {"status": list(UNFINISHED), "stateMachineArn": [state_machine_arn]},
    }


def alarm_raised(alarm_arn: str) -> dict[str, object]:
    """Return the event pattern of this alarm's going off."""
    return {
        "source": ["aws.cloudwatch"],
        "detail-type": ["CloudWatch Alarm State Change"],
        "resources": [alarm_arn],
        "detail": {"state": {"value": ["ALARM"]}},
    }


def _state(config: CompactionConfig) -> str:
    return "ENABLED" if config.enable_compaction else "DISABLED"


def _start_by(
    rule: cloudwatch.EventRule,
    name: str,
    logical: str,
    *,
    state_machine: sfn.StateMachine,
    parent: pulumi.Resource,
) -> None:
    role = ServiceRole(
        name,
        logical=f"{logical}-role",
        service="events.amazonaws.com",
        statements=state_machine.arn.apply(start_workflow),
        opts=pulumi.ResourceOptions(parent=parent),
    )
    cloudwatch.EventTarget(
        f"{logical}-target",
        rule=rule.name,
        target_id="compaction",
        arn=state_machine.arn,
        role_arn=role.arn,
        # The event would become the execution's input, which nothing reads.
        input="{}",
        # A start that is late is worth less than the next one.
        retry_policy=cloudwatch.EventTargetRetryPolicyArgs(maximum_event_age_in_seconds=300, maximum_retry_attempts=3),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[role.policy]),
    )
