"""The lists of the deltas that each snapshot merged."""

from __future__ import annotations

import zlib

from pydantic import ValidationError

from chromadb_compaction import layout
from chromadb_compaction.deltas.outcomes import DeltaOutcome, unpack_outcomes
from chromadb_compaction.errors import ObjectMissingError, SnapshotCorruptError
from chromadb_compaction.ports import Services


def read_list(services: Services, snapshot_id: str) -> list[DeltaOutcome]:
    """Return the outcomes of the deltas of the pass that made a snapshot.

    Raises SnapshotCorruptError and NewerFormatError.
    """
    key = layout.merged_deltas_key(snapshot_id, prefix=services.settings.snapshot_prefix)
    problem = "cannot be read"
    try:
        return unpack_outcomes(services.objects.get(key).body, key)
    except ObjectMissingError:
        problem = "is missing"
    except (ValidationError, OSError, EOFError, zlib.error):
        pass
    raise SnapshotCorruptError(
        f"{key}, the list of the deltas that snapshot {snapshot_id} merged, {problem}",
        next_step="restore its previous version in the bucket",
        key=key,
    )
