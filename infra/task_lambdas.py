"""The eight functions: what each runs, how large it is, and what it may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import pulumi
from pulumi_aws import cloudwatch, lambda_

from infra import iam_policies
from infra.config import CompactionConfig
from infra.environment import Environment
from infra.iam_policies import Policy, Resources, write_logs
from infra.iam_roles import ServiceRole
from infra.names import StackNames

# Python 3.11 on Lambda is Amazon Linux 2 with glibc 2.26; pyarrow's and onnxruntime's wheels need 2.28. 3.12 has 2.34.
RUNTIME = "python3.12"
ARCHITECTURE = "arm64"

# Lambda allows 900 s, and 900 s is also the lease that a task renews as it starts. Ending a minute earlier, a
# task is dead before its lease can be taken, even if not one of its heartbeats got through.
LONG_SECONDS = 840


class TaskSpec(NamedTuple):
    """One function. `image` functions need chromadb or pyarrow, which exceed Lambda's 250 MB for a zip."""

    task: str
    package: Literal["image", "zip"]
    policy: Policy
    seconds: int
    memory_mb: int
    storage_mb: int = 512
    reserved: int | None = None

    @property
    def handler(self) -> str:
        """Where the function starts, e.g. tasks.merge_batch.handler."""
        return f"tasks.{self.task.replace('-', '_')}.handler"


def task_specs(config: CompactionConfig) -> tuple[TaskSpec, ...]:
    """Return all functions.

    Reserved concurrency is both a promise and a limit. The compactor gets two: one execution uses one at a
    time, so that Lambda finds the same warm /tmp again, and the second answers an empty event meanwhile.
    MergeBatch gets what the Map asks for; releasing the lock must never wait for anybody.
    """
    specs = (
        TaskSpec("acquire-lock", "zip", iam_policies.acquire_lock, seconds=30, memory_mb=256),
        TaskSpec("list-deltas", "zip", iam_policies.list_deltas, seconds=LONG_SECONDS, memory_mb=512),
        TaskSpec(
            "merge-batch",
            "image",
            iam_policies.merge_batch,
            seconds=LONG_SECONDS,
            memory_mb=3008,
            storage_mb=2048,
            reserved=10,
        ),
        TaskSpec(
            "compactor",
            "image",
            iam_policies.compactor,
            seconds=LONG_SECONDS,
            memory_mb=config.compactor_memory_mb,
            storage_mb=config.compactor_storage_mb,
            reserved=2,
        ),
        TaskSpec("clean-up", "zip", iam_policies.clean_up, seconds=LONG_SECONDS, memory_mb=512),
        TaskSpec("release-lock", "zip", iam_policies.release_lock, seconds=30, memory_mb=256, reserved=2),
        TaskSpec("producer", "image", iam_policies.producer, seconds=300, memory_mb=1769),
        TaskSpec(
            "query",
            "image",
            iam_policies.query,
            seconds=300,
            memory_mb=config.query_memory_mb,
            storage_mb=config.query_storage_mb,
        ),
    )
    return specs if config.reserve_concurrency else tuple(spec._replace(reserved=None) for spec in specs)


class TaskFunction(pulumi.ComponentResource):
    """One function with its log group and its role, which exist before it can be called."""

    def __init__(
        self,
        spec: TaskSpec,
        *,
        names: StackNames,
        config: CompactionConfig,
        resources: pulumi.Output[Resources],
        variables: Environment,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name = names.function(spec.task)
        super().__init__("chromadb:compute:TaskFunction", name, opts=opts)
        logs = cloudwatch.LogGroup(
            f"{spec.task}-logs",
            name=f"/aws/lambda/{name}",
            retention_in_days=config.log_retention_days,
            opts=pulumi.ResourceOptions(parent=self),
        )
        role = ServiceRole(
            name,
            service="lambda.amazonaws.com",
            statements=pulumi.Output.all(resources, logs.arn).apply(
                lambda known: [*spec.policy(Resources(*known[0])), write_logs(known[1])]
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.function = lambda_.Function(
            spec.task,
            _function_args(spec, name=name, role_arn=role.arn, config=config, variables=variables),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[logs, role.policy]),
        )
        self.register_outputs({"arn": self.function.arn})


def _function_args(
    spec: TaskSpec,
    *,
    name: str,
    role_arn: pulumi.Input[str],
    config: CompactionConfig,
    variables: Environment,
) -> lambda_.FunctionArgs:
    args = lambda_.FunctionArgs(
        name=name,
        role=role_arn,
        architectures=[ARCHITECTURE],
        timeout=spec.seconds,
        memory_size=spec.memory_mb,
        ephemeral_storage=lambda_.FunctionEphemeralStorageArgs(size=spec.storage_mb),
        environment=lambda_.FunctionEnvironmentArgs(variables=variables),
        reserved_concurrent_executions=spec.reserved,
    )
    if spec.package == "image":
        args.package_type = "Image"
        args.image_uri = config.image_uri
        args.image_config = lambda_.FunctionImageConfigArgs(commands=[spec.handler])
    else:
        args.runtime = RUNTIME
        args.handler = spec.handler
        args.code = pulumi.FileArchive(str(config.package_dir))
    return args


class TaskFunctions(pulumi.ComponentResource):
    """All functions, by task."""

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        resources: pulumi.Output[Resources],
        variables: Environment,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:compute:TaskFunctions", names.function("tasks"), opts=opts)
        self.by_task: Mapping[str, lambda_.Function] = {
            spec.task: TaskFunction(
                spec,
                names=names,
                config=config,
                resources=resources,
                variables=variables,
                opts=pulumi.ResourceOptions(parent=self),
            ).function
            for spec in task_specs(config)
        }
        self.register_outputs({})
