"""Rewritten deltas: other content under the name of a merged delta, as far as a reader can find out."""

from __future__ import annotations

from typing import cast
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction.deltas.formats import Delta
from chromadb_compaction.rows.ledger import versions
from chromadb_compaction.rows.runs import DELTA_ID


def is_rewritten(delta: Delta, ledger: pa.Table) -> bool:
    """Return whether the ledger has rows of this delta that it does not have now.

    MergeBatch compares with the merged delta in compacted/, which readers may not read. The ledger does not show a
    rewritten delta of which every merged row was replaced since. Its rows of other ids are then seen until the next
    compaction quarantines it.
    """
    merged = ledger.filter(pc.equal(ledger["delta"], pa.scalar(UUID(delta.id).bytes, DELTA_ID)))
    return not _versions(merged) <= _versions(delta.table)


def _versions(rows: pa.Table) -> frozenset[tuple[str, bytes]]:
    ids = cast("list[str]", rows["id"].to_pylist())
    return frozenset(zip(ids, versions(rows).tolist(), strict=True))
