"""Ranges of ids in the order of their UTF-8 bytes: a partition of a collection is one, and so is a slice of a run.

Python compares strings by code points, which is the same order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray


class IdRange(NamedTuple):
    """The ids from `first` to before `end`. An `end` of None has no limit."""

    first: str
    end: str | None

    def holds(self, record_id: str) -> bool:
        """Return whether the id is in the range."""
        return self.first <= record_id and (self.end is None or record_id < self.end)

    def positions(self, ids: Sequence[str]) -> tuple[int, int]:
        """Return the part of sorted ids that is in the range: its first position, and the one after its last."""
        return bisect_left(ids, self.first), len(ids) if self.end is None else bisect_left(ids, self.end)

    def mask(self, ids: pa.ChunkedArray[Any]) -> NDArray[np.bool_]:
        """Return, per id, whether it is in the range."""
        inside = pc.greater_equal(ids, pa.scalar(self.first))
        if self.end is not None:
            inside = pc.and_(inside, pc.less(ids, pa.scalar(self.end)))
        return np.asarray(cast("Any", inside).to_numpy(), dtype=np.bool_)


ALL_IDS: Final = IdRange("", None)
"""The range of a collection that is not partitioned."""


def ranges(firsts: Sequence[str]) -> list[IdRange]:
    """Return the range of each partition, given their first ids: it ends where the next one begins."""
    return [IdRange(first, end) for first, end in zip(firsts, [*firsts[1:], None], strict=True)]


def groups_between(run: pq.ParquetFile, ids: IdRange) -> Sequence[int]:
    """Return the row groups of a run, which is sorted by id, that may have ids of the range.

    Few groups are read for it, of which the column of ids only.
    """
    groups = range(run.metadata.num_row_groups)
    if ids == ALL_IDS:
        return groups

    def least(group: int) -> str:
        return cast("str", run.read_row_group(group, columns=["id"])["id"][0].as_py())

    begin = max(0, bisect_right(groups, ids.first, key=least) - 1)
    return groups[begin : len(groups) if ids.end is None else bisect_left(groups, ids.end, key=least)]
