"""The queue of events that EventBridge or Lambda could not deliver, and the limits of asynchronous calls."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pulumi
from pulumi_aws import lambda_, sqs

from infra.config import CompactionConfig
from infra.iam_policies import document
from infra.iam_service_policies import keep_undelivered
from infra.names import StackNames
from infra.sqs_queue import DEAD_LETTER_RETENTION_SECONDS
from infra.task_lambdas import TaskFunction

PREFETCH_AGE = 300
"""The longest time for which a prefetch is tried, in seconds."""
LONGEST_AGE = 6 * 3600
"""The longest time for which Lambda tries an asynchronous call, in seconds."""


def event_ages(config: CompactionConfig) -> dict[str, int]:
    """Return how many seconds an asynchronous call of a function is worth trying.

    A later start of an execution is replaced by the schedule, and a lease that is never released expires by itself. An
    event for the producer holds data. A prefetch that is late is of no use: a query has waited for the download.
    """
    lease = config.lock_timeout_minutes * 60
    ages = {"compactor": 300, "release-lock": min(lease, LONGEST_AGE), "producer": LONGEST_AGE}
    return {**ages, "query": PREFETCH_AGE} if config.prefetches else ages


class UndeliveredEvents(pulumi.ComponentResource):
    """One queue for the events of all rules and functions. An alarm watches it."""

    def __init__(self, names: StackNames, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromadb:messaging:UndeliveredEvents", "chromadb-undelivered", opts=opts)
        child = pulumi.ResourceOptions(parent=self)
        queue = sqs.Queue(
            "chromadb-undelivered-queue",
            name=names.undelivered_queue,
            message_retention_seconds=DEAD_LETTER_RETENTION_SECONDS,
            sqs_managed_sse_enabled=True,
            opts=child,
        )
        sqs.QueuePolicy(
            "chromadb-undelivered-queue-policy",
            queue_url=queue.url,
            policy=queue.arn.apply(lambda arn: json.dumps(document(keep_undelivered(arn, names)))),
            opts=child,
        )
        self.arn = queue.arn
        self.register_outputs({"arn": queue.arn})

    def limit_calls(self, config: CompactionConfig, functions: Mapping[str, TaskFunction]) -> None:
        """Set how long Lambda tries an asynchronous call, and keep the event of one that it gives up."""
        for task, age in event_ages(config).items():
            alias = functions[task].alias
            lambda_.FunctionEventInvokeConfig(
                f"chromadb-{task}-calls",
                function_name=alias.function_name,
                qualifier=alias.name,
                maximum_event_age_in_seconds=age,
                maximum_retry_attempts=2,
                destination_config=lambda_.FunctionEventInvokeConfigDestinationConfigArgs(
                    on_failure=lambda_.FunctionEventInvokeConfigDestinationConfigOnFailureArgs(destination=self.arn)
                ),
                opts=pulumi.ResourceOptions(parent=self),
            )
