"""FoldPartitions: the folds of a pass that other functions do, as UploadSnapshot plans them and collects their results.

A part of the manifest is taken only by the key and the SHA-256 that the Map's result names, never from a listing: an
attempt that was repeated, or that still runs, has left others.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Literal

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.deaths import Process, running_whole_pass
from chromadb_compaction.errors import SnapshotCorruptError, VerificationError
from chromadb_compaction.fold.collections import RUNS, FoldRounds
from chromadb_compaction.fold.cost import FoldCost, FoldLimits, limits_of
from chromadb_compaction.fold.distribution import FOLDS, FoldInput, FoldPlan, rounds
from chromadb_compaction.fold.joining import PartOfManifest
from chromadb_compaction.fold.run_files import read_parts
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.heartbeat import Heartbeat, heartbeat_for
from chromadb_compaction.messages import (
    FoldedItem,
    FoldItem,
    FoldPartitionRequest,
    MergedBatch,
    UploadSnapshotRequest,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.base import cache_of, read_base
from chromadb_compaction.steps.publication import Draft
from chromadb_compaction.times import Phases

log = logging.getLogger(__name__)


class StoredItem(BaseModel):
    """The stored list of the folds that one function does.

    Attributes:
        units: The folds.
        runs: The merged batches of the pass that have rows or changes for them.
        disk: The estimated bytes of disk of each fold. Empty: unknown.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    units: list[FoldUnit]
    runs: list[MergedBatch]
    disk: list[int] = []

    def rounds(self, limits: FoldLimits | None) -> list[list[FoldUnit]]:
        """Return the folds in rounds that the limits hold."""
        return rounds(dict(zip(self.units, self.disk or [0] * len(self.units), strict=True)), limits)


class StoredPlan(BaseModel):
    """The stored plan of a pass of which other functions do a part.

    Attributes:
        here: The folds of UploadSnapshot.
        elsewhere: The folds of other functions.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    here: list[FoldUnit]
    elsewhere: list[FoldUnit]


class StoredParts(BaseModel):
    """The stored result of an item: its part of the manifest.

    Attributes:
        parts: The directories after their folds.
        too_large: The collections of which memory or disk could not hold a fold.
        late: Those for which time did not suffice.
        left: The folds of these two: a collection is folded whole or not at all.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    parts: list[PartOfManifest]
    too_large: list[str]
    late: list[str]
    left: list[FoldUnit] = []

    def without(self, collections: Collection[str]) -> StoredParts:
        """Return the parts of other collections than these."""
        parts = [part for part in self.parts if part.unit.collection not in collections]
        return self.model_copy(update={"parts": parts})


def fold_partition(request: FoldPartitionRequest, services: Services) -> FoldedItem:
    """Do the folds of one item, upload what changed under fresh keys, and store its part of the manifest.

    The disk holds the folds of one round, which are uploaded and removed before the next one. Nothing is published.
    What does not fit, or for which no time is left, stays pending with a mark, and the others go on. Raises
    SnapshotConflictError if the base has been replaced, and what FoldRounds.fold raises.
    """
    phases, objects = Phases(), services.objects
    with heartbeat_for(services, request.execution) as heartbeat, phases("item"):
        base = read_base(services, request.base)
        item = StoredItem.model_validate_json(objects.get(request.item.key).body)
        task = f"{FOLDS}-{layout.batch_number(request.item.key)}"
        process = Process(request.execution, request.pass_number, task)
        collections = list(dict.fromkeys(unit.collection for unit in item.units))
        with (
            cache_of(services).scratch() as scratch,
            running_whole_pass(process, objects, collections, seconds_left=services.seconds_left),
        ):
            inputs = FoldInput(
                request.execution,
                request.pass_number,
                item.runs,
                read_parts(item.runs, services),
                item.units,
                task,
            )
            runs = scratch / RUNS
            folds = FoldRounds(inputs, services, base=base, runs=runs, phases=Phases(), heartbeat=heartbeat)
            draft = Draft(request, base, base_sha256=None, prefix=services.settings.snapshot_prefix)
            uploaded = _fold_in_rounds(folds, item.rounds(limits_of(services)), draft, services, heartbeat)
            left = set(folds.left)
            parts = [part for part in uploaded if part.unit not in left]
            folds.mark_left(is_all=not parts)
        stored = StoredParts(parts=parts, too_large=list(folds.too_large), late=list(folds.late), left=folds.left)
        body = stored.model_dump_json().encode()
        key = layout.folded_part_key(request.item.key, draft.snapshot_id)
        objects.put(key, body)
    log.info("folded %d directories for snapshot parts %s", len(parts), draft.snapshot_id)
    return FoldedItem(
        key=key,
        sha256=hashlib.sha256(body).hexdigest(),
        folds=len(parts),
        left=len(left),
        bytes_uploaded=draft.bytes_of(uploaded),
        seconds=phases.total,
    )


def _fold_in_rounds(
    folds: FoldRounds, rounds: Sequence[Sequence[FoldUnit]], draft: Draft, services: Services, heartbeat: Heartbeat
) -> list[PartOfManifest]:
    """Do the folds and upload them, round after round, so that the disk holds one round at a time."""
    uploaded: list[PartOfManifest] = []
    for number, units in enumerate(rounds, 1):
        with cache_of(services).scratch() as scratch:
            folded = folds.fold(units, scratch, later=list(chain.from_iterable(rounds[number:])))
            heartbeat.check()
            uploaded += draft.upload(folded, services)
    return uploaded


def store_plan(
    request: UploadSnapshotRequest, plan: FoldPlan, costs: Sequence[FoldCost], services: Services
) -> list[FoldItem]:
    """Store the plan and its items, and return the items of the Map."""
    cost_of = {cost.unit: cost for cost in costs}
    refs: list[FoldItem] = []
    bodies: dict[str, bytes] = {}
    for number, units in enumerate(plan.items):
        key = layout.fold_item_key(request.execution, request.pass_number, number)
        disk = [cost_of[unit].disk for unit in units]
        bodies[key] = StoredItem(units=list(units), runs=request.runs, disk=disk).model_dump_json().encode()
        refs.append(
            FoldItem(
                key=key,
                folds=len(units),
                collection=units[0].collection,
                bytes=sum(cost_of[unit].base_bytes for unit in units),
                estimated_seconds=round(sum(cost_of[unit].seconds for unit in units), 1),
            )
        )
    stored = StoredPlan(here=list(plan.here), elsewhere=[unit for units in plan.items for unit in units])
    key = layout.fold_plan_key(request.execution, request.pass_number)
    bodies[key] = stored.model_dump_json().encode()
    in_threads(lambda each: services.objects.put(*each), bodies.items())
    return refs


def read_plan(request: UploadSnapshotRequest, services: Services) -> StoredPlan:
    """Return the plan that this pass's first call of UploadSnapshot has stored."""
    key = layout.fold_plan_key(request.execution, request.pass_number)
    return StoredPlan.model_validate_json(services.objects.get(key).body)


def collect(request: UploadSnapshotRequest, plan: StoredPlan, services: Services) -> StoredParts:
    """Return the parts of all items together.

    Raises SnapshotCorruptError if a part is not the one that the Map's result names, and VerificationError if they are
    not exactly the folds of the plan: each fold once, and none left out.
    """
    found = in_threads(lambda item: _read_part(item, services), request.folded)
    together = StoredParts(
        parts=[part for each in found for part in each.parts],
        too_large=[name for each in found for name in each.too_large],
        late=[name for each in found for name in each.late],
        left=[unit for each in found for unit in each.left],
    )
    done = [*(part.unit for part in together.parts), *together.left]
    if Counter(done) != Counter(plan.elsewhere):
        wrong = sorted({unit.collection for unit in {*done} ^ {*plan.elsewhere}}) or ["a fold that is there twice"]
        raise VerificationError(f"the folds of other functions are not those of the plan: {', '.join(wrong)}")
    return together


def _read_part(item: FoldedItem, services: Services) -> StoredParts:
    body = services.objects.get(item.key).body
    if hashlib.sha256(body).hexdigest() != item.sha256:
        raise SnapshotCorruptError(
            f"{item.key} is not what its function has stored (its SHA-256 differs)",
            next_step="run again: the next execution folds again",
            key=item.key,
        )
    return StoredParts.model_validate_json(body)
