"""Ranges of ids in the order of their UTF-8 bytes: a partition of a collection is one, and so is a slice of a run.

Python compares strings by code points, which is the same order.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import ceil
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

    def overlaps(self, other: IdRange) -> bool:
        """Return whether an id may be in both ranges."""
        return (other.end is None or self.first < other.end) and (self.end is None or other.first < self.end)


ALL_IDS: Final = IdRange("", None)
"""The range of a collection that is not partitioned."""

SAMPLE_ROWS: Final = 1000
"""The rows of a run between two sampled ids, at most. A small run has shorter steps."""
LEAST_SAMPLES: Final = 64
"""The ids that are sampled of a small run: all, if it has no more rows."""
GROUP_IDS: Final = "chromadb_compaction.group_ids"
"""The name of GroupIds in the metadata of a run's footer."""


class SampledIds(NamedTuple):
    """Ids of a run, ascending and at equal distances, with its first and its last one.

    Attributes:
        ids: The ids. None of a run whose ids are not known.
        rows: The number of the run's rows.
    """

    ids: Sequence[str]
    rows: int

    @property
    def weight(self) -> float:
        """The most rows for which one of the ids stands: itself, and those before the next one."""
        return self.rows / (len(self.ids) if len(self.ids) == self.rows else max(1, len(self.ids) - 1))

    def within(self, ids: IdRange) -> Sequence[str]:
        """Return the sampled ids that stand for rows of the range. Without any, the run has no row there."""
        at = bisect_left(self.ids, ids.first)
        is_passed = at == len(self.ids) or self.ids[at] == ids.first or len(self.ids) == self.rows
        begin = at if is_passed else max(0, at - 1)
        return self.ids[begin : len(self.ids) if ids.end is None else bisect_left(self.ids, ids.end)]

    def rows_within(self, ids: IdRange) -> int:
        """Return the most rows of the run that the range may have. All of them, if its ids are not known."""
        return min(self.rows, ceil(len(self.within(ids)) * self.weight)) if self.ids else self.rows


def sample_ids(run: pq.ParquetFile) -> list[str]:
    """Return the sampled ids of a run, of which only the ids are read, a row group at a time."""
    rows = run.metadata.num_rows
    count = min(rows, max(LEAST_SAMPLES, -(-rows // SAMPLE_ROWS) + 1))
    wanted = np.linspace(0, rows - 1, count).round().astype(np.int64)
    found: list[str] = []
    begin = 0
    for group in range(run.metadata.num_row_groups):
        ids = run.read_row_group(group, columns=["id"])["id"]
        at = wanted[(wanted >= begin) & (wanted < begin + len(ids))] - begin
        found += cast("list[str]", ids.take(at).to_pylist())
        begin += len(ids)
    return found


def ranges(firsts: Sequence[str]) -> list[IdRange]:
    """Return the range of each partition, given their first ids: it ends where the next one begins."""
    return [IdRange(first, end) for first, end in zip(firsts, [*firsts[1:], None], strict=True)]


class GroupIds(NamedTuple):
    """The first id of each row group of a run, which is sorted by id, and the last id of the run."""

    firsts: Sequence[str]
    last: str

    @classmethod
    def of(cls, footer: pq.FileMetaData) -> GroupIds | None:
        """Return those that the footer of a run states. None: it has no rows, or an earlier version has written it."""
        stated = (footer.metadata or {}).get(GROUP_IDS.encode())
        return cls(*json.loads(stated)) if stated else None

    def encode(self) -> dict[str, str]:
        """Return the metadata of the footer that states them."""
        return {GROUP_IDS: json.dumps(self)}

    def within(self, ids: IdRange) -> range:
        """Return the row groups that may have ids of the range."""
        begin = max(0, bisect_right(self.firsts, ids.first) - 1)
        end = len(self.firsts) if ids.end is None else bisect_left(self.firsts, ids.end)
        return range(begin, end) if ids.first <= self.last else range(0)


def groups_between(footer: pq.FileMetaData, ids: IdRange) -> range:
    """Return the row groups of a run that may have ids of the range: all of them if its footer does not state ids."""
    found = GroupIds.of(footer)
    return found.within(ids) if found else range(footer.num_row_groups)
