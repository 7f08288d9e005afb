"""The plan of a pass's folds: those that one function does, and those that other functions do at the same time.

The folds of a function are planned to end within a minute, as long as there are functions left, and never take more
than half of its timeout and half of its disk. A function that has folds for more disk does them in rounds: it uploads
and removes the directories of a round before the next one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from chromadb_compaction.fold.cost import FoldCost, FoldLimits, FoldLoad
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.messages import MergedBatch
from chromadb_compaction.rows.batch_run import RunPart

FOLDS: Final = "fold"
"""The name of the process in its marks of work in progress."""
MOST_ITEMS: Final = 40
"""The most functions that fold for a pass. It keeps the state and the history within their limits."""


class FoldInput(NamedTuple):
    """The folds that one function does.

    Attributes:
        execution: The execution.
        pass_number: The pass.
        runs: The merged batches of the whole pass.
        parts: The parts of each of these runs.
        units: The folds.
        task: The name of the process in its marks of work in progress.
    """

    execution: str
    pass_number: int
    runs: list[MergedBatch]
    parts: list[list[RunPart]]
    units: Sequence[FoldUnit]
    task: str = FOLDS


class FoldPlan(NamedTuple):
    """The folds of a pass.

    Attributes:
        here: Those that UploadSnapshot does.
        items: Those that other functions do, one function for each item.
        left: Those for which no function is left. A later pass does them.
    """

    here: tuple[FoldUnit, ...]
    items: tuple[tuple[FoldUnit, ...], ...] = ()
    left: tuple[FoldUnit, ...] = ()


def plan_folds(costs: Sequence[FoldCost], limits: FoldLimits | None) -> FoldPlan:
    """Return the plan. If one function can do all folds soon and in one round, or there is only one, it has no items.

    Otherwise UploadSnapshot keeps the smallest, as many as half of the limits hold: it also publishes. The others are
    packed into as few items as possible that end soon and in one round, the largest first. Only beyond MOST_ITEMS items
    take longer, or have more rounds. A fold that exceeds the limits alone has its own item. The folds of one collection
    are all planned or all left.
    """
    if limits is None or len(costs) < 2 or limits.hold(FoldLoad.of(costs)):
        return FoldPlan(tuple(cost.unit for cost in costs))
    smallest_first = sorted(costs, key=lambda cost: (cost.seconds, cost.disk))
    kept, load, most = 0, FoldLoad(), limits.halved()
    while most.hold(load := load.with_fold(smallest_first[kept])):
        kept += 1
    here, others = smallest_first[:kept], smallest_first[kept:]
    items: list[list[FoldCost]] = []
    loads: list[FoldLoad] = []
    left: list[FoldCost] = []
    for group in _by_collection(reversed(others)):
        numbers = _functions_for(group, loads, limits)
        if numbers is None and not items:
            # It alone needs more functions than there are, and would be left for ever.
            numbers = [number % MOST_ITEMS for number in range(len(group))]
        if numbers is None:
            name = group[0].unit.collection
            left += [*(cost for cost in here if cost.unit.collection == name), *group]
            here = [cost for cost in here if cost.unit.collection != name]
            continue
        for number, cost in zip(numbers, group, strict=True):
            if number == len(items):
                items.append([])
                loads.append(FoldLoad())
            items[number].append(cost)
            loads[number] = loads[number].with_fold(cost)
    return FoldPlan(
        tuple(cost.unit for cost in here),
        tuple(tuple(cost.unit for cost in item) for item in items),
        tuple(cost.unit for cost in left),
    )


def _by_collection(costs: Iterable[FoldCost]) -> list[list[FoldCost]]:
    """Return the folds of each collection together, in the order of their first ones.

    A collection that needs more items than there are comes first.
    """
    groups: dict[str, list[FoldCost]] = defaultdict(list)
    for cost in costs:
        groups[cost.unit.collection].append(cost)
    return sorted(groups.values(), key=lambda group: len(group) <= MOST_ITEMS)


def _functions_for(group: Sequence[FoldCost], loads: Sequence[FoldLoad], limits: FoldLimits) -> list[int] | None:
    """Return the number of the function for each fold of `group`, given the load of each function so far.

    A function without folds has the next number. None: they do not fit into MOST_ITEMS functions.
    """
    after = list(loads)
    numbers: list[int] = []
    for cost in group:
        number = next((number for number, load in enumerate(after) if limits.hold(load.with_fold(cost))), None)
        if number is None and len(after) < MOST_ITEMS:
            number = len(after)
            after.append(FoldLoad())
        if number is None:
            least_first = sorted(range(len(after)), key=lambda each: after[each].seconds)
            fitting = (each for each in least_first if limits.hold_in_rounds(after[each].with_fold(cost)))
            number = next(fitting, None)
        if number is None:
            return None
        after[number] = after[number].with_fold(cost)
        numbers.append(number)
    return numbers


def rounds(disk: Mapping[FoldUnit, int], limits: FoldLimits | None) -> list[list[FoldUnit]]:
    """Return the folds of one function in rounds, in the order of their ids.

    `disk` has the bytes of disk of each. As many as fit together make a round, and one alone may take more. None: all.
    """
    found: list[list[FoldUnit]] = []
    most = math.inf if limits is None else limits.disk
    taken = 0
    for unit in sorted(disk, key=lambda unit: (unit.collection, unit.first)):
        taken += disk[unit]
        if not found or taken > most:
            found.append([])
            taken = disk[unit]
        found[-1].append(unit)
    return found
