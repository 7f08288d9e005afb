"""What everything is called. Operators type these names, so they carry the stack's name and nothing random."""

from __future__ import annotations

import re
from typing import NamedTuple

from infra.config import ConfigurationRefused

DELTA_PREFIX = "delta/"
COMPACTED_PREFIX = "compacted/"
QUARANTINE_PREFIX = "quarantine/"
WORK_PREFIX = "work/"
SNAPSHOT_PREFIX = "snapshot/"

# The longest that leaves a bucket's name within 63 characters, made of what a bucket's name may hold.
_STACK = re.compile(r"[a-z0-9]([a-z0-9-]{0,31}[a-z0-9])?")


class StackNames(NamedTuple):
    """The names of one stack in one account and region."""

    stack: str
    account: str
    region: str

    @classmethod
    def checked(cls, stack: str, *, account: str, region: str) -> StackNames:
        """Return the names. Raises ConfigurationRefused for a stack whose name AWS would refuse within another name."""
        if not _STACK.fullmatch(stack):
            raise ConfigurationRefused(
                f"the stack name {stack!r} cannot be part of a bucket's name; use at most 33 lower-case letters,"
                " digits and hyphens, the first and last no hyphen"
            )
        return cls(stack, account, region)

    @property
    def bucket(self) -> str:
        """Bucket names are global: the account keeps ours apart."""
        return f"chromadb-vectors-{self.stack}-{self.account}"

    @property
    def replica_bucket(self) -> str:
        """Where snapshots are copied to. As long as the bucket's own name: 63 is the limit of both."""
        return f"chromadb-replica-{self.stack}-{self.account}"

    @property
    def audit_bucket(self) -> str:
        """Where the trail writes who did what."""
        return f"chromadb-audit-{self.stack}-{self.account}"

    @property
    def queue(self) -> str:
        """The bell that producers ring."""
        return f"chromadb-delta-queue-{self.stack}"

    @property
    def dead_letter_queue(self) -> str:
        """Where quarantined deltas are reported."""
        return f"{self.queue}-dlq"

    @property
    def table(self) -> str:
        """The lock's table, unless an existing one is named."""
        return f"portfolio-{self.stack}"

    @property
    def state_machine(self) -> str:
        """The workflow."""
        return f"chromadb-compaction-{self.stack}"

    @property
    def state_machine_arn(self) -> str:
        """Known before the state machine exists, which the compactor and the status-change rule rely on."""
        return f"arn:aws:states:{self.region}:{self.account}:stateMachine:{self.state_machine}"

    def function(self, task: str) -> str:
        """Return e.g. chromadb-merge-batch-dev for `merge-batch`."""
        return f"chromadb-{task}-{self.stack}"

    def function_arn(self, task: str) -> str:
        """Known before the function exists: its role refuses something to its code."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{self.function(task)}"

    def alarm(self, alarm: str) -> str:
        """Return e.g. chromadb-compaction-dev-dead-letters for `dead-letters`."""
        return f"{self.state_machine}-{alarm}"

    def alarm_arn(self, alarm: str) -> str:
        """Known before the alarm exists: the dashboard shows it."""
        return f"arn:aws:cloudwatch:{self.region}:{self.account}:alarm:{self.alarm(alarm)}"

    @property
    def trail(self) -> str:
        """The audit trail."""
        return f"chromadb-audit-{self.stack}"

    @property
    def trail_arn(self) -> str:
        """Known before the trail exists: its bucket must admit it first."""
        return f"arn:aws:cloudtrail:{self.region}:{self.account}:trail/{self.trail}"
