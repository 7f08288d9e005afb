"""The functions as they are deployed on Lambda: how many work at once, their limits, and the price of what they do."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapreplace
from typing import Final, NamedTuple

from chromadb_compaction.fold.cost import SHARE, SOON_SECONDS, FoldLimits
from chromadb_compaction.settings import MEBIBYTE, MERGES_AT_ONCE, UPLOAD_PART_BYTES
from infra import prices
from infra.config import CompactionConfig
from infra.config_values import Task
from infra.dashboard import dollars_a_second
from infra.task_lambdas import task_specs

OTHER_WRITES: Final = 30
"""The objects that a pass writes beside deltas and snapshots: infra/cost.py."""
_CONFIG: Final = CompactionConfig.model_construct(image_uri="any")


class Platform(NamedTuple):
    """The functions' machine.

    Attributes:
        merges_at_once: How many batches are merged at once, each on a core of its own.
        folds_at_once: How many functions fold at once, each with the cores that the cost model assumes.
        seconds: The timeout of a function.
        disk: The disk of a function, in bytes.
    """

    merges_at_once: int
    folds_at_once: int
    seconds: float
    disk: float

    @property
    def limits(self) -> FoldLimits:
        """The limits for which a pass plans the folds of one function."""
        return FoldLimits(SHARE * self.seconds, SHARE * self.disk, SOON_SECONDS)


def on_lambda() -> Platform:
    """Return the functions as they are deployed by default."""
    spec = {each.task: each for each in task_specs(_CONFIG)}["fold-partitions"]
    return Platform(MERGES_AT_ONCE, MERGES_AT_ONCE, spec.seconds, spec.storage_mb * MEBIBYTE)


def span(seconds: Iterable[float], at_once: int) -> float:
    """Return the time until all are done, if so many run at once and each begins as soon as another has ended."""
    busy = [0.0] * at_once
    for each in seconds:
        heapreplace(busy, busy[0] + each)
    return max(busy)


def dollars_of_functions(merges: Iterable[float], items: Iterable[float], compactor: float, clean_up: float) -> float:
    """Return the price of the functions of a pass, given their seconds, and of the transitions of its Maps."""
    second = {spec.task: dollars_a_second(spec) for spec in task_specs(_CONFIG)}
    used: list[tuple[Task, float]] = [
        *(("merge-batch", each) for each in merges),
        *(("fold-partitions", each) for each in items),
        ("compactor", compactor),
        ("clean-up", clean_up),
    ]
    return sum(each * second[task] + prices.STATE_TRANSITION + prices.LAMBDA_REQUEST for task, each in used)


def dollars_of_requests(deltas: int, written: float) -> float:
    """Return the price of the requests of a pass: each delta is written, copied and read, with three calls of SQS."""
    writes = 2 * deltas + written / UPLOAD_PART_BYTES + OTHER_WRITES
    reads = deltas + written / UPLOAD_PART_BYTES
    return writes * prices.S3_WRITE + reads * prices.S3_READ + 3 * deltas * prices.SQS_REQUEST
