"""The name of every resource. Operators type these names, so they contain the stack's name and nothing random."""

from __future__ import annotations

import re
from typing import NamedTuple

from chromadb_compaction.layout import DELTA_PREFIX, SNAPSHOT_PREFIX
from chromadb_compaction.settings import REPLICA_NAME
from infra.config import NAMESPACE, ConfigurationRefused

REPLICATED = {"snapshots": SNAPSHOT_PREFIX, "deltas": DELTA_PREFIX}
"""The prefix that each replication rule copies, by the rule's name."""
LIVE = "live"
"""The alias of each function's newest version."""

# Bucket names have at most 63 characters, from this set; 33 are left for the stack.
_STACK = re.compile(r"[a-z0-9]([a-z0-9-]{0,31}[a-z0-9])?")


class Partition(NamedTuple):
    """The part of AWS that a region belongs to: aws, aws-cn or aws-us-gov.

    Args:
        name: The second part of every ARN.
        dns_suffix: The end of every endpoint, e.g. amazonaws.com.cn.
        endpoint_prefix: The start of the name of every interface endpoint, e.g. cn.com.amazonaws.
    """

    name: str = "aws"
    dns_suffix: str = "amazonaws.com"
    endpoint_prefix: str = "com.amazonaws"


AWS = Partition()


class StackNames(NamedTuple):
    """The names of one stack in one account and region."""

    stack: str
    account: str
    region: str
    partition: Partition = AWS

    @classmethod
    def checked(cls, stack: str, *, account: str, region: str, partition: Partition) -> StackNames:
        """Return the names. Raises ConfigurationRefused for a stack name that cannot be part of a bucket's name."""
        if not _STACK.fullmatch(stack):
            raise ConfigurationRefused(
                f"the stack name {stack!r} cannot be part of a bucket's name; use at most 33 lower-case letters,"
                f" digits and hyphens, with no hyphen first or last, or set {NAMESPACE}:name"
            )
        return cls(stack, account, region, partition)

    @property
    def bucket(self) -> str:
        """The vector bucket. Bucket names are global, so the name contains the account."""
        return f"chromadb-vectors-{self.stack}-{self.account}"

    @property
    def replica_bucket(self) -> str:
        """The bucket that snapshots are copied to. The name is as long as the vector bucket's, so the limit holds."""
        return f"{REPLICA_NAME}{self.stack}-{self.account}"

    @property
    def audit_bucket(self) -> str:
        """The bucket that the audit trail writes to."""
        return f"chromadb-audit-{self.stack}-{self.account}"

    @property
    def image_repository(self) -> str:
        """The repository of the functions' image."""
        return self.state_machine

    @property
    def queue(self) -> str:
        """The queue that producers notify."""
        return f"chromadb-delta-queue-{self.stack}"

    @property
    def dead_letter_queue(self) -> str:
        """The queue that reports quarantined deltas."""
        return f"{self.queue}-dlq"

    @property
    def undelivered_queue(self) -> str:
        """The queue of events that could not be delivered."""
        return f"chromadb-undelivered-{self.stack}"

    @property
    def table(self) -> str:
        """The lock table, unless the configuration names an existing one."""
        return f"portfolio-{self.stack}"

    @property
    def state_machine(self) -> str:
        """The workflow."""
        return f"chromadb-compaction-{self.stack}"

    @property
    def state_machine_arn(self) -> str:
        """The workflow's ARN. The compactor's role and environment need it before the state machine exists."""
        return self.arn("states", f"stateMachine:{self.state_machine}")

    @property
    def schedule_rule(self) -> str:
        """The rule that starts an execution on schedule."""
        return f"{self.state_machine}-schedule"

    @property
    def early_rule(self) -> str:
        """The rule that starts an execution early."""
        return f"{self.state_machine}-early"

    @property
    def unfinished_rule(self) -> str:
        """The rule that releases the lock of an execution that did not succeed."""
        return f"{self.state_machine}-unfinished"

    @property
    def prefetch_rule(self) -> str:
        """The rule that lets the query function open what an execution has published."""
        return f"{self.state_machine}-prefetch"

    @property
    def alarm_topic(self) -> str:
        """The topic that alarms notify, unless the configuration names one."""
        return f"{self.state_machine}-alarms"

    def function(self, task: str) -> str:
        """Return e.g. chromadb-merge-batch-dev for `merge-batch`."""
        return f"chromadb-{task}-{self.stack}"

    def live_function(self, task: str) -> str:
        """Return a function's name with its alias, e.g. chromadb-query-dev:live, for callers outside the workflow."""
        return f"{self.function(task)}:{LIVE}"

    def live_function_arn(self, task: str) -> str:
        """Return the ARN of a function's alias."""
        return f"{self.function_arn(task)}:{LIVE}"

    def people_policy(self, kind: str) -> str:
        """Return the name of the managed policy of a kind of user, e.g. chromadb-writer-dev."""
        return f"chromadb-{kind}-{self.stack}"

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in the stack's account and region."""
        return f"arn:{self.partition.name}:{service}:{self.region}:{self.account}:{resource}"

    def bucket_arn(self, bucket: str) -> str:
        """Return a bucket's ARN. Its policy needs it before the bucket exists."""
        return f"arn:{self.partition.name}:s3:::{bucket}"

    def account_arn(self, account: str) -> str:
        """Return the ARN of all principals of an account."""
        return f"arn:{self.partition.name}:iam::{account}:root"

    @property
    def budgets_arn(self) -> str:
        """The pattern of the ARNs of the account's budgets, which belong to no region."""
        return f"arn:{self.partition.name}:budgets::{self.account}:*"

    def rule_arn(self, rule: str) -> str:
        """Return a rule's ARN. The role that EventBridge assumes for it needs it before the rule exists."""
        return self.arn("events", f"rule/{rule}")

    def s3_endpoint(self, region: str) -> str:
        """Return the name by which KMS knows requests that S3 sends."""
        return f"s3.{region}.{self.partition.dns_suffix}"

    def function_arn(self, task: str) -> str:
        """Return a function's ARN. Its own role needs it before the function exists."""
        return self.arn("lambda", f"function:{self.function(task)}")

    def alarm(self, alarm: str) -> str:
        """Return e.g. chromadb-compaction-dev-dead-letters for `dead-letters`."""
        return f"{self.state_machine}-{alarm}"

    def alarm_arn(self, alarm: str) -> str:
        """Return an alarm's ARN, for the dashboard."""
        return self.arn("cloudwatch", f"alarm:{self.alarm(alarm)}")

    @property
    def trail(self) -> str:
        """The audit trail."""
        return f"chromadb-audit-{self.stack}"

    @property
    def trail_arn(self) -> str:
        """The trail's ARN. The policy of its bucket needs it before the trail exists."""
        return self.arn("cloudtrail", f"trail/{self.trail}")
