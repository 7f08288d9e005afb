"""The folds of a pass: the directories of each collection that arriving rows touch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from chromadb_compaction.configuration import KeptSettings
from chromadb_compaction.fold.distribution import FoldCost, FoldUnit, directories_of
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.rows.batch_run import RunPart
from chromadb_compaction.rows.id_ranges import IdRange


def fold_costs(parts: list[list[RunPart]], base: Manifest | None) -> list[FoldCost]:
    """Return the cost of every fold of a pass, in the order of the runs and of the ids."""
    of_collection: dict[str, list[RunPart]] = {}
    for part in chain.from_iterable(parts):
        of_collection.setdefault(part.collection, []).append(part)
    if base is not None:
        base.collections.fetch(of_collection)
    costs: list[FoldCost] = []
    for name, arriving in of_collection.items():
        known = base.collections.get(name) if base else None
        dropped = base.dropped.get(name) if base else None
        is_changed = any(
            part.change.settings != KeptSettings() or (part.change.dropped_before or "") > (dropped or "")
            for part in arriving
        )
        costs += [_cost(unit, arriving, known) for unit in plan_units(name, arriving, known, is_changed=is_changed)]
    return costs


def plan_units(
    collection: str, arriving: Sequence[RunPart], known: CollectionSnapshot | None, *, is_changed: bool
) -> list[FoldUnit]:
    """Return the folds of a collection: one for each directory that may get rows, and at least one.

    `is_changed`: the pass changes more than its rows, and so all directories.
    """
    directories = directories_of(known)
    if len(directories) < 2:
        return [FoldUnit(collection)]
    touched = [ids for _, ids in directories if is_changed or rows_within(arriving, ids)]
    return [FoldUnit(collection, *ids) for ids in touched or [ids for _, ids in directories[:1]]]


def rows_within(arriving: Sequence[RunPart], ids: IdRange) -> int:
    """Return the most arriving rows that the range may get."""
    return sum(part.sampled.rows_within(ids) for part in arriving)


def _cost(unit: FoldUnit, arriving: Sequence[RunPart], known: CollectionSnapshot | None) -> FoldCost:
    rows = {id(part): part.sampled.rows_within(unit.ids) for part in arriving}
    run_bytes = sum(part.bytes * rows[id(part)] // part.rows for part in arriving if part.rows)
    return FoldCost(unit, sum(each.bytes for each in unit.sources(known)), run_bytes)
