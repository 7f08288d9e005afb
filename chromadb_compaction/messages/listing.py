"""The messages of ListDeltas and CleanUp."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from chromadb_compaction.messages.base import BaseRef, BatchRef, PassNumber, WorkflowMessage
from chromadb_compaction.messages.folding import FoldedItem


class ListDeltasRequest(WorkflowMessage):
    """The request of ListDeltas.

    Attributes:
        previous_pass: The pass that was published last, 0 at first.
        large_passes: The number of passes before that one of which other functions did a part.
        folded: The results of these functions in the previous pass.
        execution_input: The input of the execution, whatever its caller gave.
    """

    execution: str
    previous_pass: Annotated[int, Field(ge=0)]
    execution_input: JsonValue = None
    large_passes: Annotated[int, Field(ge=0)] = 0
    folded: list[FoldedItem] = Field(default=[])

    @property
    def merges_all(self) -> bool:
        """True if the execution merges every collection, due or not: its input is {"all": true}."""
        return isinstance(self.execution_input, dict) and self.execution_input.get("all") is True


class DeltaListing(WorkflowMessage):
    """The result of ListDeltas.

    Attributes:
        batches: The batches of this pass.
        deltas: The number of deltas in them.
        more: Whether another pass must follow.
        base: The snapshot that the pass starts from.
        pending: The number of all pending deltas.
        oldest_seconds: The age of the oldest of them. None if there are none.
        finished_clean_up_of: The snapshot whose clean-up an earlier execution left unfinished, if there was one.
        queue_error: The error of a queue that this clean-up could not use. None if there was none.
        set_aside: The number of pending deltas that cannot be read, or that have failed too often.
        large_passes: The number of passes so far of which other functions did a part. Each counts as two.
        deferred: The number of pending deltas of collections that are not due yet.
        deferred_until: When the first of these collections is due, if no delta follows. None if there are none.
    """

    pass_number: PassNumber
    batches: list[BatchRef]
    deltas: int
    more: bool
    base: BaseRef
    pending: int
    oldest_seconds: float | None
    finished_clean_up_of: str | None
    queue_error: str | None = None
    set_aside: int = 0
    large_passes: int = 0
    deferred: int = 0
    deferred_until: float | None = None


class CleanUpRequest(WorkflowMessage):
    """The request of CleanUp.

    Attributes:
        snapshot_id: The snapshot of the pass. Nothing is moved unless it is still published.
        outcome: The key of the list of delta outcomes. Empty if other functions must fold first.
    """

    execution: str
    pass_number: PassNumber
    snapshot_id: str | None
    outcome: str


class CleanedUp(WorkflowMessage):
    """The result of CleanUp.

    Attributes:
        archived: The number of deltas moved to compacted/.
        quarantined: The number of quarantined deltas removed from delta/.
        messages_deleted: The number of notifications deleted from the queue.
        snapshots_pruned: The number of snapshots deleted.
        objects_pruned: The number of their objects deleted.
        skipped: Why nothing was done. None if it was.
        queue_error: The error of a queue that could not be used. None if both could.
    """

    archived: int
    quarantined: int
    messages_deleted: int
    snapshots_pruned: int
    objects_pruned: int
    skipped: str | None = None
    queue_error: str | None = None
