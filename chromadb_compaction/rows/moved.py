"""The plan of a fold into a new directory, to which those base rows move that no arriving row replaces."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction.errors import VerificationError
from chromadb_compaction.rows.ledger import FoldPlan
from chromadb_compaction.rows.run_rows import NO_ROWS, Mask, RunRows


def into_new_directory(plan: FoldPlan, arriving: RunRows, moved: RunRows, *, collection: str) -> FoldPlan:
    """Return the plan that writes all live rows of the next ledger to an empty directory.

    Arriving rows that won are inserts, the others are taken from `moved`, the live rows of the base. Ledger, counts and
    conservation stay those of `plan`, so they do not depend on where rows were before.

    Raises VerificationError unless each live row of the ledger is written once, under its own fingerprint.
    """
    upserts = pa.chunked_array(
        [chunk for rows in (plan.inserts, plan.replacements, plan.edits) for chunk in rows.id_column.chunks],
        pa.string(),
    )
    live = plan.ledger.filter(pc.invert(plan.ledger["deleted"]))
    inserts = arriving.select(_is_in(arriving.keys["id"], upserts))
    kept = _is_in(moved.keys["id"], live["id"]) & ~_is_in(moved.keys["id"], upserts)
    keys = moved.keys.filter(pa.array(kept))
    expected = live["fingerprint"].take(pc.index_in(keys["id"], value_set=live["id"].combine_chunks()))
    same = cast("Any", pc.all(pc.equal(keys["fingerprint"], expected), min_count=0)).as_py()
    if keys.num_rows + inserts.num_rows != live.num_rows or not same:
        raise VerificationError(f"{collection}: the rows that move and those that arrive are not those of the ledger")
    return plan._replace(inserts=inserts, replacements=NO_ROWS, edits=NO_ROWS, deletes=[], moved=moved.select(kept))


def _is_in(ids: pa.ChunkedArray[Any], those: pa.ChunkedArray[Any]) -> Mask:
    return np.asarray(pc.is_in(ids, value_set=those.combine_chunks()).to_numpy(), dtype=np.bool_)
