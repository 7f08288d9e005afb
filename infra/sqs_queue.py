"""The queue that producers notify, and the dead-letter queue that reports quarantined deltas."""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import sqs

from infra.names import StackNames

DAY_SECONDS = 86_400
QUEUE_RETENTION_SECONDS = 4 * DAY_SECONDS
DEAD_LETTER_RETENTION_SECONDS = 14 * DAY_SECONDS
VISIBILITY_SECONDS = 900

# CleanUp receives all messages, deletes those of merged deltas and lets the others reappear. So the notification of a
# pending delta is received many times, and SQS must not dead-letter it. Within its retention a message can be received
# at most 345,600 s / 900 s = 384 times, which never reaches 1000, the largest limit of SQS. CleanUp itself sends the
# dead-letter messages, with the reason. No role may ChangeMessageVisibility, which would break this calculation.
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
