"""Merging: keep the newest version of each id.

1. The version of a row is (delta, row, fingerprint), compared in this order: the bytes of the delta's UUIDv7, the row
   number within the delta, the bytes of the fingerprint.
2. Per id the greatest version wins. A delete is a version like any other.
3. The result depends only on the set of versions, not on their order, batches or repeats: the order in 1 is total.
4. The fingerprint only breaks a tie between two contents that were written under one name. A delete loses the tie.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction.rows.runs import common_dimension, run_dimension, run_schema, with_dimension

_ID_THEN_NEWEST: list[tuple[str, Literal["ascending", "descending"]]] = [
    ("id", "ascending"),
    ("delta", "descending"),
    ("row", "descending"),
    ("fingerprint", "descending"),
]


def newest(tables: Iterable[pa.Table]) -> pa.Table:
    """Return the newest version of each id as a run, sorted by the bytes of the id. No tables give an empty run.

    The tables have the columns of a run. Raises ValueError if those with upserts differ in dimension.
    """
    parts = list(tables)
    dimension = common_dimension(run_dimension(table) for table in parts)
    if not parts:
        return run_schema(dimension).empty_table()
    rows = pa.concat_tables([with_dimension(table, dimension) for table in parts])
    at = winners(rows)
    # A single run already has this form: avoid a copy, which may take most of the memory.
    unchanged = len(at) == rows.num_rows and np.array_equal(at.to_numpy(), np.arange(rows.num_rows))
    return rows if unchanged else rows.take(at)


def winners(rows: pa.Table) -> pa.UInt64Array:
    """Return the position of the newest version of each id, in the order of the ids.

    `rows` needs only the columns id, delta, row and fingerprint.
    """
    order = pc.sort_indices(rows, sort_keys=_ID_THEN_NEWEST)
    if len(order) < 2:
        return order
    ids = rows["id"].take(order).combine_chunks()
    first = pc.not_equal(ids[1:], ids[:-1])
    return order.filter(pa.concat_arrays([pa.array([True]), first]))
