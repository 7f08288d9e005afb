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
        name = f"{names.state_machine}-schedule"
        super().__init__("chromadb:workflow:CompactionSchedule", name, opts=opts)
        role = ServiceRole(
            name,
            service="events.amazonaws.com",
            statements=state_machine.arn.apply(start_workflow),
            opts=pulumi.ResourceOptions(parent=self),
        )
        rule = cloudwatch.EventRule(
            "schedule",
            name=name,
            description="Starts a compaction; one that is running already makes the new one end at once",
            schedule_expression=config.compaction_schedule,
            state="ENABLED" if config.enable_compaction else "DISABLED",
            opts=pulumi.ResourceOptions(parent=self),
        )
        cloudwatch.EventTarget(
            "schedule-target",
            rule=rule.name,
            target_id="compaction",
            arn=state_machine.arn,
            role_arn=role.arn,
            # A start that is late is worth less than the next one.
            retry_policy=cloudwatch.EventTargetRetryPolicyArgs(
                maximum_event_age_in_seconds=300, maximum_retry_attempts=3
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[role.policy]),
        )
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
        name = f"{names.state_machine}-unfinished"
        super().__init__("chromadb:workflow:LockReleaseRule", name, opts=opts)
        child = pulumi.ResourceOptions(parent=self)
        rule = cloudwatch.EventRule(
            "unfinished",
            name=name,
            description="Releases the lock of an execution that ended without doing so itself",
            event_pattern=state_machine.arn.apply(lambda arn: json.dumps(unfinished_executions(arn))),
            opts=child,
        )
        permission = lambda_.Permission(
            "unfinished-permission",
            statement_id="unfinished-executions",
            action="lambda:InvokeFunction",
            function=release_lock.name,
            principal="events.amazonaws.com",
            source_arn=rule.arn,
            opts=child,
        )
        cloudwatch.EventTarget(
            "unfinished-target",
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
