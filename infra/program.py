"""The whole stack: bucket, queue, table, functions, workflow, schedule, alarms."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
from pulumi_aws import lambda_

from infra.config import CompactionConfig, load_config
from infra.dynamodb_table import LockTable, existing_table
from infra.environment import EnvironmentVariables, environment, exported
from infra.eventbridge_rules import CompactionSchedule, EarlyStart, LockReleaseRule, PrefetchRule
from infra.iam_people import OtherAccounts, PeoplePolicies
from infra.iam_policies import Resources
from infra.monitoring import Monitoring
from infra.names import Partition, StackNames
from infra.packages import check_packages
from infra.s3_buckets import SnapshotReplica, VectorBucket
from infra.sqs_queue import DeltaQueue
from infra.state_machine import CompactionWorkflow
from infra.tags import tag_resources
from infra.task_lambdas import SharedInputs, TaskFunctions
from infra.undelivered import UndeliveredEvents


def declare() -> EnvironmentVariables:
    """Declare every resource of the stack and return its outputs. The local stack uses this program too."""
    # All checks come before the first resource, so a refused configuration changes nothing.
    config = load_config()
    found = aws.get_partition()
    names = StackNames.checked(
        config.name or pulumi.get_stack(),
        account=aws.get_caller_identity().account_id,
        region=aws.get_region().region,
        partition=Partition(found.partition, found.dns_suffix, found.reverse_dns_prefix),
    )
    config.check_regions(names.region)
    check_packages(config)
    existing = existing_table(config)
    route_tables = _route_tables(config)

    tag_resources(names, config)
    bucket = VectorBucket(names, config)
    if config.replica_region:
        SnapshotReplica(names, config, region=config.replica_region, source=bucket.private)
    if config.audit_trail:
        from infra.audit import AuditTrail

        AuditTrail(names, config, bucket=bucket.bucket)
    queue = DeltaQueue(names)
    table = LockTable(names, config, existing=existing)
    variables = environment(names, config, bucket=bucket, queue=queue, table=table)
    arns = pulumi.Output.all(
        bucket.bucket.arn,
        table.arn,
        config.lock_id,
        queue.queue.arn,
        queue.dead_letters.arn,
        names.state_machine_arn,
    )
    resources = arns.apply(lambda values: Resources(*values))
    network = _network(names, config, route_tables)
    image = config.image_uri or _built_image(names, config)
    functions = TaskFunctions(SharedInputs(names, config, resources, variables, image, network)).by_task
    workflow = CompactionWorkflow(names, config, functions=functions)
    undelivered = UndeliveredEvents(names)
    undelivered.limit_calls(config, functions)
    CompactionSchedule(names, config, state_machine=workflow.state_machine, undelivered=undelivered.arn)
    LockReleaseRule(
        names,
        config,
        state_machine=workflow.state_machine,
        release_lock=functions["release-lock"].alias,
        undelivered=undelivered.arn,
    )
    if config.prefetches:
        PrefetchRule(
            names,
            state_machine=workflow.state_machine,
            query=functions["query"].alias,
            undelivered=undelivered.arn,
        )
    monitoring = Monitoring(names, config)
    if monitoring.early_start:
        EarlyStart(
            names,
            config,
            alarm=monitoring.early_start,
            state_machine=workflow.state_machine,
            undelivered=undelivered.arn,
        )
    if config.monthly_budget:
        from infra.budget import MonthlyBudget

        MonthlyBudget(names, dollars=config.monthly_budget, topic=monitoring.topic)
    if config.writer_accounts or config.reader_accounts:
        OtherAccounts(names, config, queue=queue.queue, query_function=functions["query"].alias)
    return {**exported(variables), **PeoplePolicies(names, config, resources=resources).outputs}


# A stack with a given image needs no docker-build provider, and the local stack does not install it.
def _built_image(names: StackNames, config: CompactionConfig) -> pulumi.Output[str]:
    from infra.ecr_image import FunctionImage

    return FunctionImage(names, config).uri


# The provider's ec2 module takes as long to import as all the others together, so only a VPC imports it.
def _route_tables(config: CompactionConfig) -> list[str]:
    if config.vpc_id is None:
        return []
    from infra.network import read_route_tables

    return read_route_tables(config)


def _network(
    names: StackNames, config: CompactionConfig, route_tables: list[str]
) -> lambda_.FunctionVpcConfigArgs | None:
    if config.vpc_id is None:
        return None
    from infra.network import FunctionNetwork

    return FunctionNetwork(names, config, route_tables=route_tables).vpc_config
