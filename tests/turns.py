"""The next turn of a backlog, as tests compare it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chromadb_compaction.deltas import attempts
from chromadb_compaction.deltas.attempts import Attempts
from chromadb_compaction.planning import ObjectInfo, PassLimits

FULL_PASS = PassLimits(size=100, max_batches=40, max_bytes=10**9, max_batch_bytes=10**8, max_collections=1000)


class PlannedTurn(NamedTuple):
    """The deltas of a turn in key order, and whether each has a batch of its own and other deltas come later."""

    deltas: list[ObjectInfo]
    alone: bool
    later: bool
    set_aside: int


def next_turn(
    pending: Sequence[ObjectInfo],
    marks: Mapping[str, Attempts],
    *,
    max_failures: int,
    limits: PassLimits = FULL_PASS,
) -> PlannedTurn:
    """Plan the next turn with the limits of a large pass."""
    turn = attempts.next_turn(pending, marks, limits, max_failures=max_failures)
    batches = [batch.deltas for batch in turn.plan.batches]
    deltas = sorted((delta for batch in batches for delta in batch), key=lambda delta: delta.key)
    alone = all(len(batch) == 1 for batch in batches)
    return PlannedTurn(deltas, alone=alone, later=turn.plan.more, set_aside=turn.set_aside)
