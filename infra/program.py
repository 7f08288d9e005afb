"""The bill of materials: bucket, queue, table, functions, workflow, schedule."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from infra.config import load_config
from infra.dynamodb_table import LockTable
from infra.environment import Environment, environment
from infra.eventbridge_rules import CompactionSchedule, LockReleaseRule
from infra.iam_policies import Resources
from infra.names import StackNames
from infra.s3_buckets import VectorBucket
from infra.sqs_queue import DeltaQueue
from infra.state_machine import CompactionWorkflow
from infra.task_lambdas import TaskFunctions


def declare() -> Environment:
    """Declare every resource of the stack and return its outputs. The local stack deploys through this too."""
    config = load_config()
    names = StackNames.checked(
        pulumi.get_stack(), account=aws.get_caller_identity().account_id, region=aws.get_region().region
    )

    bucket = VectorBucket(names.bucket, config)
    queue = DeltaQueue(names)
    table = LockTable(names, config)
    variables = environment(names, config, bucket=bucket, queue=queue, table=table)
    functions = TaskFunctions(
        names,
        config,
        resources=pulumi.Output.all(
            bucket.bucket.arn,
            table.arn,
            config.lock_id,
            queue.queue.arn,
            queue.dead_letters.arn,
            names.state_machine_arn,
        ).apply(lambda arns: Resources(*arns)),
        variables=variables,
    ).by_task
    workflow = CompactionWorkflow(names, config, functions=functions)
    CompactionSchedule(names, config, state_machine=workflow.state_machine)
    LockReleaseRule(names, state_machine=workflow.state_machine, release_lock=functions["release-lock"])
    return variables
