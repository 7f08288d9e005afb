"""The workflow: statemachine/compaction.asl.json with the ARNs of the functions' versions filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pulumi
from pulumi_aws import cloudwatch, sfn

from infra.config import CompactionConfig
from infra.iam_policies import run_workflow, trust
from infra.iam_roles import ServiceRole
from infra.iam_service_policies import trace_executions
from infra.names import StackNames
from infra.task_lambdas import TaskFunction

DEFINITION = Path(__file__).parent.parent / "statemachine" / "compaction.asl.json"

PLACEHOLDERS = {
    "AcquireLockFunctionArn": "acquire-lock",
    "ListDeltasFunctionArn": "list-deltas",
    "CompactorFunctionArn": "compactor",
    "MergeBatchFunctionArn": "merge-batch",
    "FoldPartitionFunctionArn": "fold-partitions",
    "CleanUpFunctionArn": "clean-up",
    "ReleaseLockFunctionArn": "release-lock",
}
"""The function for each ${...} of the definition."""


class CompactionWorkflow(pulumi.ComponentResource):
    """The Standard state machine, its log group and its role."""

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        functions: Mapping[str, TaskFunction],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:workflow:CompactionWorkflow", "chromadb-compaction", opts=opts)
        called = {name: functions[task].function for name, task in PLACEHOLDERS.items()}
        # The definition names versions: a running execution keeps its definition, and so the code that it began with.
        versions = pulumi.Output.all(**{name: function.qualified_arn for name, function in called.items()})
        logs = cloudwatch.LogGroup(
            "chromadb-compaction-workflow-logs",
            # For this prefix AWS keeps the log group's resource policy short.
            name=f"/aws/vendedlogs/states/{names.state_machine}",
            retention_in_days=config.log_retention_days,
            opts=pulumi.ResourceOptions(parent=self),
        )
        role = ServiceRole(
            names.state_machine,
            logical="chromadb-compaction-workflow-role",
            # https://docs.aws.amazon.com/step-functions/latest/dg/procedure-create-iam-role.html
            trusted=trust("states.amazonaws.com", account=names.account, source=names.state_machine_arn),
            config=config,
            statements=pulumi.Output.all(*(function.arn for function in called.values())).apply(
                lambda arns: [*run_workflow(sorted(arns)), trace_executions()]
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.state_machine = sfn.StateMachine(
            "chromadb-compaction-workflow",
            name=names.state_machine,
            type="STANDARD",
            role_arn=role.arn,
            publish=True,
            definition=versions.apply(lambda values: _definition(names, config, values)),
            logging_configuration=sfn.StateMachineLoggingConfigurationArgs(
                level="ERROR", include_execution_data=True, log_destination=logs.arn.apply(_all_streams)
            ),
            tracing_configuration=sfn.StateMachineTracingConfigurationArgs(enabled=True),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[role.policy]),
        )
        self.register_outputs({"arn": self.state_machine.arn})


def _definition(names: StackNames, config: CompactionConfig, arns: Mapping[str, str]) -> str:
    definition = render(DEFINITION.read_text(encoding="utf-8"), arns, merges_at_once=config.merges_at_once)
    # The integration with Lambda has an ARN too.
    return re.sub(r'"arn:[\w-]+:states:::', f'"arn:{names.partition.name}:states:::', definition)


def render(definition: str, arns: Mapping[str, str], *, merges_at_once: int) -> str:
    """Replace each ${name} by its ARN, and set the concurrency of both Maps.

    Raises KeyError for an unknown placeholder.
    """
    replaced = re.sub(r"\$\{(\w+)\}", lambda placeholder: arns[placeholder[1]], definition)
    return re.sub(r'"MaxConcurrency": \d+', f'"MaxConcurrency": {merges_at_once}', replaced)


def _all_streams(log_group_arn: str) -> str:
    return f"{log_group_arn.removesuffix(':*')}:*"
