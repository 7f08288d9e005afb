"""The nine functions: handler, size and rights of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import pulumi
from pulumi_aws import cloudwatch, lambda_

from infra import iam_policies
from infra.config import NAMESPACE, CompactionConfig, ConfigurationRefused
from infra.config_values import Task
from infra.environment import ALLOCATORS, EnvironmentVariables
from infra.iam_policies import Policy, Resources, Statement, allow, trust, write_logs
from infra.iam_roles import ServiceRole
from infra.iam_service_policies import attach_to_network, trace_calls, use_keys
from infra.names import LIVE, StackNames

# Lambda's Python 3.11 has glibc 2.26, and the wheels of pyarrow need 2.28. 3.12 has 2.34.
RUNTIME = "python3.12"

# Lambda allows 900 s, which is also the lease that a task renews when it starts. A task that ends a minute earlier
# ends before its lease can expire, even if every heartbeat fails.
LONG_SECONDS = 840

LEASE_HOLDERS: Final = frozenset(
    ("acquire-lock", "list-deltas", "merge-batch", "compactor", "fold-partitions", "clean-up")
)
"""The tasks that renew the lease."""


class TaskSpec(NamedTuple):
    """One function.

    `image` functions need chromadb or pyarrow, which exceed Lambda's limit of 250 MB for a zip. `asynchronous` ones are
    called without waiting for the answer, so their role keeps the events that Lambda gives up: undelivered.py.
    """

    task: Task
    package: Literal["image", "zip"]
    policy: Policy
    seconds: int
    memory_mb: int
    storage_mb: int = 512
    reserved: int | None = None
    asynchronous: bool = False

    @property
    def handler(self) -> str:
        """The dotted name of the handler, e.g. tasks.merge_batch.handler."""
        return f"tasks.{self.task.replace('-', '_')}.handler"


def task_specs(config: CompactionConfig) -> tuple[TaskSpec, ...]:
    """Return all functions.

    Reserved concurrency is both a guarantee and a limit. The compactor gets two: an execution uses one at a time, so
    that Lambda reuses the warm /tmp, and the second answers an empty event. MergeBatch gets as many as the Map
    starts at once, and so does FoldPartitions, which folds what the compactor cannot fold soon enough. Releasing the
    lock must never wait. 3008 MB is the memory limit of a new AWS account.
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
            reserved=config.merges_at_once,
        ),
        TaskSpec(
            "compactor",
            "image",
            iam_policies.compactor,
            seconds=LONG_SECONDS,
            memory_mb=3008,
            storage_mb=10240,
            reserved=2,
            asynchronous=True,
        ),
        TaskSpec(
            "fold-partitions",
            "image",
            iam_policies.fold_partitions,
            seconds=LONG_SECONDS,
            memory_mb=3008,
            storage_mb=10240,
            reserved=config.merges_at_once,
        ),
        TaskSpec("clean-up", "zip", iam_policies.clean_up, seconds=LONG_SECONDS, memory_mb=512),
        TaskSpec(
            "release-lock", "zip", iam_policies.release_lock, seconds=30, memory_mb=256, reserved=2, asynchronous=True
        ),
        TaskSpec("producer", "image", iam_policies.producer, seconds=300, memory_mb=1769, asynchronous=True),
        TaskSpec(
            "query",
            "image",
            iam_policies.query,
            seconds=300,
            memory_mb=3008,
            storage_mb=10240,
            asynchronous=config.prefetches,
        ),
    )
    configured = tuple(_configured(spec, config) for spec in specs)
    for spec in configured:
        _check_lease(spec, config)
    return configured


def _check_lease(spec: TaskSpec, config: CompactionConfig) -> None:
    """Raise ConfigurationRefused if a task could outlive the lease that it renews when it starts.

    Then a rollback could begin while a stalled clean-up is about to delete deltas.
    """
    lease = 60 * config.lock_timeout_minutes
    if spec.task in LEASE_HOLDERS and spec.seconds >= lease:
        raise ConfigurationRefused(
            f"{NAMESPACE}:lockTimeoutMinutes = {config.lock_timeout_minutes}: {spec.task} may run for {spec.seconds} s,"
            f" longer than its lease of {lease} s; raise lockTimeoutMinutes, or lower timeout.{spec.task}"
        )


def _configured(spec: TaskSpec, config: CompactionConfig) -> TaskSpec:
    # A fold needs the same wherever it runs.
    default: Task = "compactor" if spec.task == "fold-partitions" else spec.task
    return spec._replace(
        seconds=config.timeout.get(spec.task, config.timeout.get(default, spec.seconds)),
        memory_mb=config.memory.get(spec.task, config.memory.get(default, spec.memory_mb)),
        storage_mb=config.ephemeral_storage.get(spec.task, config.ephemeral_storage.get(default, spec.storage_mb)),
        reserved=spec.reserved if config.reserve_concurrency else None,
    )


class SharedInputs(NamedTuple):
    """The inputs that all functions share."""

    names: StackNames
    config: CompactionConfig
    resources: pulumi.Output[Resources]
    variables: EnvironmentVariables
    image: pulumi.Input[str]
    vpc_config: lambda_.FunctionVpcConfigArgs | None = None


class TaskFunction(pulumi.ComponentResource):
    """One function and the alias of its newest version, after its log group and its role."""

    def __init__(
        self,
        spec: TaskSpec,
        shared: SharedInputs,
        *,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name, logical = shared.names.function(spec.task), f"chromadb-{spec.task}-lambda"
        super().__init__("chromadb:compute:TaskFunction", f"chromadb-{spec.task}", opts=opts)
        logs = cloudwatch.LogGroup(
            f"{logical}-logs",
            name=f"/aws/lambda/{name}",
            retention_in_days=shared.config.log_retention_days,
            opts=pulumi.ResourceOptions(parent=self),
        )
        role = ServiceRole(
            name,
            logical=f"{logical}-role",
            # AWS documents both conditions for execution roles, and one role is for one account in any case.
            # https://docs.aws.amazon.com/lambda/latest/dg/permissions-managed-policies.html
            trusted=trust("lambda.amazonaws.com", account=shared.names.account),
            config=shared.config,
            statements=pulumi.Output.all(shared.resources, logs.arn).apply(
                lambda values: [*_rights(spec, Resources(*values[0]), shared), write_logs(values[1])]
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.function = lambda_.Function(
            logical,
            _function_args(spec, shared, role_arn=role.arn),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[logs, role.policy]),
        )
        # Published versions never change, so the definition of a running execution keeps the code that it names.
        self.alias = lambda_.Alias(
            f"{logical}-alias",
            name=LIVE,
            function_name=self.function.name,
            function_version=self.function.version,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"arn": self.function.arn, "version": self.function.version})


def _rights(spec: TaskSpec, resources: Resources, shared: SharedInputs) -> list[Statement]:
    names = shared.names
    own = spec.policy(resources)
    return [
        *own,
        *use_keys(own, shared.config, names.s3_endpoint(names.region)),
        *([allow(["sqs:SendMessage"], [names.arn("sqs", names.undelivered_queue)])] if spec.asynchronous else []),
        *(attach_to_network(names.function_arn(spec.task)) if shared.vpc_config else []),
        trace_calls(),
    ]


def _function_args(spec: TaskSpec, shared: SharedInputs, *, role_arn: pulumi.Input[str]) -> lambda_.FunctionArgs:
    args = lambda_.FunctionArgs(
        name=shared.names.function(spec.task),
        role=role_arn,
        architectures=[shared.config.architecture],
        timeout=spec.seconds,
        memory_size=spec.memory_mb,
        ephemeral_storage=lambda_.FunctionEphemeralStorageArgs(size=spec.storage_mb),
        environment=lambda_.FunctionEnvironmentArgs(variables=shared.variables),
        reserved_concurrent_executions=spec.reserved,
        publish=True,
        tracing_config=lambda_.FunctionTracingConfigArgs(mode="Active"),
        vpc_config=shared.vpc_config,
    )
    if spec.package == "image":
        args.environment = lambda_.FunctionEnvironmentArgs(variables={**shared.variables, **ALLOCATORS})
        args.package_type = "Image"
        args.image_uri = shared.image
        args.image_config = lambda_.FunctionImageConfigArgs(commands=[spec.handler])
    else:
        args.runtime = RUNTIME
        args.handler = spec.handler
        args.code = pulumi.FileArchive(str(shared.config.package_dir))
    return args


class TaskFunctions(pulumi.ComponentResource):
    """All functions. `by_task` maps the name of a task to its function and its alias."""

    def __init__(
        self,
        shared: SharedInputs,
        *,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:compute:TaskFunctions", "chromadb-functions", opts=opts)
        self.by_task: Mapping[str, TaskFunction] = {
            spec.task: TaskFunction(spec, shared, opts=pulumi.ResourceOptions(parent=self))
            for spec in task_specs(shared.config)
        }
        self.register_outputs({})
