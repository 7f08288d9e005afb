"""The eight functions: what each runs, how large it is, and what it may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import pulumi
from pulumi_aws import cloudwatch, lambda_

from infra import iam_policies
from infra.config import CompactionConfig
from infra.config_values import Task
from infra.environment import ALLOCATORS, Environment
from infra.iam_policies import Policy, Resources, Statement, write_logs
from infra.iam_roles import ServiceRole
from infra.iam_service_policies import attach_to_network, trace_calls, use_key
from infra.names import StackNames

# Python 3.11 on Lambda is Amazon Linux 2 with glibc 2.26; pyarrow's and onnxruntime's wheels need 2.28. 3.12 has 2.34.
RUNTIME = "python3.12"
ARCHITECTURE = "arm64"

# Lambda allows 900 s, and 900 s is also the lease that a task renews as it starts. Ending a minute earlier, a
# task is dead before its lease can be taken, even if not one of its heartbeats got through.
LONG_SECONDS = 840


class TaskSpec(NamedTuple):
    """One function. `image` functions need chromadb or pyarrow, which exceed Lambda's 250 MB for a zip."""

    task: Task
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
    MergeBatch gets what the Map asks for; releasing the lock must never wait for anybody. 3008 MB is what every AWS
    account may use without asking for more.
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
            memory_mb=3008,
            storage_mb=10240,
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
            memory_mb=3008,
            storage_mb=10240,
        ),
    )
    return tuple(_configured(spec, config) for spec in specs)


def _configured(spec: TaskSpec, config: CompactionConfig) -> TaskSpec:
    return spec._replace(
        seconds=config.timeout.get(spec.task, spec.seconds),
        memory_mb=config.memory.get(spec.task, spec.memory_mb),
        storage_mb=config.ephemeral_storage.get(spec.task, spec.storage_mb),
        reserved=spec.reserved if config.reserve_concurrency else None,
    )


class Surroundings(NamedTuple):
    """What all functions share."""

    names: StackNames
    config: CompactionConfig
    resources: pulumi.Output[Resources]
    variables: Environment
    vpc_config: lambda_.FunctionVpcConfigArgs | None = None


class TaskFunction(pulumi.ComponentResource):
    """One function with its log group and its role, which exist before it can be called."""

    def __init__(
        self,
        spec: TaskSpec,
        around: Surroundings,
        *,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name, logical = around.names.function(spec.task), f"chromadb-{spec.task}-lambda"
        super().__init__("chromadb:compute:TaskFunction", f"chromadb-{spec.task}", opts=opts)
        logs = cloudwatch.LogGroup(
            f"{logical}-logs",
            name=f"/aws/lambda/{name}",
            retention_in_days=around.config.log_retention_days,
            opts=pulumi.ResourceOptions(parent=self),
        )
        role = ServiceRole(
            name,
            logical=f"{logical}-role",
            service="lambda.amazonaws.com",
            statements=pulumi.Output.all(around.resources, logs.arn).apply(
                lambda known: [*_rights(spec, Resources(*known[0]), around), write_logs(known[1])]
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.function = lambda_.Function(
            logical,
            _function_args(spec, around, role_arn=role.arn),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[logs, role.policy]),
        )
        self.register_outputs({"arn": self.function.arn})


def _rights(spec: TaskSpec, resources: Resources, around: Surroundings) -> list[Statement]:
    names, key = around.names, around.config.kms_key_arn
    own = spec.policy(resources)
    return [
        *own,
        *(use_key(own, key, names.region) if key else []),
        *(attach_to_network(names.function_arn(spec.task)) if around.vpc_config else []),
        trace_calls(),
    ]


def _function_args(spec: TaskSpec, around: Surroundings, *, role_arn: pulumi.Input[str]) -> lambda_.FunctionArgs:
    args = lambda_.FunctionArgs(
        name=around.names.function(spec.task),
        role=role_arn,
        architectures=[ARCHITECTURE],
        timeout=spec.seconds,
        memory_size=spec.memory_mb,
        ephemeral_storage=lambda_.FunctionEphemeralStorageArgs(size=spec.storage_mb),
        environment=lambda_.FunctionEnvironmentArgs(variables=around.variables),
        reserved_concurrent_executions=spec.reserved,
        tracing_config=lambda_.FunctionTracingConfigArgs(mode="Active"),
        vpc_config=around.vpc_config,
    )
    if spec.package == "image":
        args.environment = lambda_.FunctionEnvironmentArgs(variables={**around.variables, **ALLOCATORS})
        args.package_type = "Image"
        args.image_uri = around.config.image_uri
        args.image_config = lambda_.FunctionImageConfigArgs(commands=[spec.handler])
    else:
        args.runtime = RUNTIME
        args.handler = spec.handler
        args.code = pulumi.FileArchive(str(around.config.package_dir))
    return args


class TaskFunctions(pulumi.ComponentResource):
    """All functions, by task."""

    def __init__(
        self,
        around: Surroundings,
        *,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:compute:TaskFunctions", "chromadb-functions", opts=opts)
        self.by_task: Mapping[str, lambda_.Function] = {
            spec.task: TaskFunction(spec, around, opts=pulumi.ResourceOptions(parent=self)).function
            for spec in task_specs(around.config)
        }
        self.register_outputs({})
