"""Which version of each id wins. The answer depends on the set of versions alone, never on order or batching."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction.rows.runs import run_dimension, run_schema, with_dimension

_ID_THEN_NEWEST: list[tuple[str, Literal["ascending", "descending"]]] = [
    ("id", "ascending"),
    ("delta", "descending"),
    ("row", "descending"),
    ("fingerprint", "descending"),
]


def newest(tables: Iterable[pa.Table]) -> pa.Table:
    """Return the newest version of each id in any number of run-shaped tables, sorted by the id's bytes.

    Newest by (delta, row, fingerprint), see versions.Version. Tables with upserts must agree in dimension;
    ValueError otherwise. No tables give an empty run.
    """
    given = list(tables)
    dimensions = {run_dimension(table) for table in given} - {None}
    if len(dimensions) > 1:
        raise ValueError(f"runs of dimensions {sorted(d for d in dimensions if d)} cannot be one collection's")
    dimension = next(iter(dimensions), None)
    if not given:
        return run_schema(dimension).empty_table()
    rows = pa.concat_tables([with_dimension(table, dimension) for table in given])
    at = winners(rows)
    # A run alone is so already: it is spared a copy, which may be most of the memory that there is.
    unchanged = len(at) == rows.num_rows and np.array_equal(at.to_numpy(), np.arange(rows.num_rows))
    return rows if unchanged else rows.take(at)


def winners(rows: pa.Table) -> pa.UInt64Array:
    """Return where the newest version of each id stands, in the order of the ids.

    `rows` needs a run's columns id, delta, row and fingerprint only.
    """
    order = pc.sort_indices(rows, sort_keys=_ID_THEN_NEWEST)
    if len(order) < 2:
        return order
    ids = rows["id"].take(order).combine_chunks()
    first = pc.not_equal(ids[1:], ids[:-1])
    return order.filter(pa.concat_arrays([pa.array([True]), first]))
