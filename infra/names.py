"""What everything is called. Operators type these names, so they carry the stack's name and nothing random."""

from __future__ import annotations

from typing import NamedTuple

DELTA_PREFIX = "delta/"
COMPACTED_PREFIX = "compacted/"
QUARANTINE_PREFIX = "quarantine/"
WORK_PREFIX = "work/"
SNAPSHOT_PREFIX = "snapshot/"


class StackNames(NamedTuple):
    """The names of one stack in one account and region."""

    stack: str
    account: str
    region: str

    @property
    def bucket(self) -> str:
        """Bucket names are global: the account keeps ours apart."""
        return f"chromadb-vectors-{self.stack}-{self.account}"

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
