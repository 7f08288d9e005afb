"""The queue that producers ring, and where refused deltas are reported."""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import sqs

from infra.names import StackNames

DAY_SECONDS = 86_400
QUEUE_RETENTION_SECONDS = 4 * DAY_SECONDS
DEAD_LETTER_RETENTION_SECONDS = 14 * DAY_SECONDS
VISIBILITY_SECONDS = 900

# The queue is only a bell: CleanUp receives what is there, deletes what has been merged, and leaves the rest to
# reappear. A notice of a pending delta is therefore received again and again, and that must not dead-letter it:
# within its retention a message can be received at most 345,600 s / 900 s = 384 times, so a limit of 1000, the
# most that SQS allows, is never reached. What is dead-lettered, CleanUp sends there itself, with the reason.
# The sum only holds while nobody shortens the visibility of a message: no role may ChangeMessageVisibility.
MAX_RECEIVE_COUNT = 1000


class DeltaQueue(pulumi.ComponentResource):
    """The notification queue (4 days) and its dead-letter queue (14 days), both encrypted."""

    def __init__(self, names: StackNames, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromadb:messaging:DeltaQueue", "chromadb-delta", opts=opts)
        child = pulumi.ResourceOptions(parent=self)
        self.dead_letters = sqs.Queue(
            "chromadb-delta-queue-dlq",
            name=names.dead_letter_queue,
            message_retention_seconds=DEAD_LETTER_RETENTION_SECONDS,
            sqs_managed_sse_enabled=True,
            opts=child,
        )
        self.queue = sqs.Queue(
            "chromadb-delta-queue",
            name=names.queue,
            message_retention_seconds=QUEUE_RETENTION_SECONDS,
            visibility_timeout_seconds=VISIBILITY_SECONDS,
            redrive_policy=self.dead_letters.arn.apply(
                lambda arn: json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVE_COUNT})
            ),
            sqs_managed_sse_enabled=True,
            opts=child,
        )
        self.register_outputs({"url": self.queue.url, "dead_letter_url": self.dead_letters.url})
