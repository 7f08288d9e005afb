"""The rule that decides to change an index in place or to rebuild it, and the vectors that a rebuilt index keeps.

A replaced vector gets a new entry, and its old one dies. hnswlib can also overwrite an entry, but that costs as much as
four insertions, and searches miss many of the vectors around it. See decision 19 for the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction.chroma.client import CollectionSpec
from chromadb_compaction.chroma.index_files import StoredVectors, entries
from chromadb_compaction.chroma.loader import ids_of, stored_vectors_of, vectors_of
from chromadb_compaction.chroma.tables import ADD, Operation
from chromadb_compaction.chroma.verification import differing
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.rows.fingerprints import VECTOR_BYTES, vector_fingerprint
from chromadb_compaction.rows.ledger import FoldPlan

ROWS_AT_ONCE = 5000
MAX_DEAD_SHARE = 0.15
"""The most dead entries per live one. Dead entries take space in every copy, and time in every search."""


class IndexChange(NamedTuple):
    """The entries and live ids of an index before a fold, and the vectors that the fold deletes, replaces and adds.

    `replaced_in_place` counts the vectors that earlier releases have replaced in place since the index was built.
    """

    entries: int
    live: int
    deleted: int
    replaced: int
    added: int
    replaced_in_place: int = 0

    @property
    def kept(self) -> int:
        """Live vectors that do not change."""
        return self.live - self.deleted - self.replaced

    @property
    def dead(self) -> int:
        """Dead entries afterwards, if the index is changed in place."""
        return self.entries - self.kept

    @property
    def strands(self) -> bool:
        """Return whether most of the old entries would be dead, so that it is unsafe to change the index in place.

        ChromaDB deletes and inserts in several threads at once. hnswlib fails to insert a vector if it finds only
        entries that are being deleted.
        """
        return self.dead > self.kept

    @property
    def rebuilds(self) -> bool:
        """Return whether the index is rebuilt."""
        if not (self.deleted or self.replaced or self.added):
            return False
        after = self.kept + self.replaced + self.added
        return self.strands or self.dead > MAX_DEAD_SHARE * after or self.replaced_in_place > 0

    def __str__(self) -> str:
        """Return the choice and its reasons, for the log."""
        chosen = "rebuilt" if self.rebuilds else "changed in place"
        return (
            f"index {chosen}: {self.live} live of {self.entries} entries, "
            f"{self.deleted} deleted, {self.replaced} replaced, {self.added} added; "
            f"in place leaves {self.dead} dead"
        )


class KeptVectors:
    """The live vectors that a fold does not change, the oldest first. The old files may be removed meanwhile.

    They are verified when they are read and after the rebuild.
    """

    def __init__(self, segment: Path, spec: CollectionSpec, plan: FoldPlan) -> None:
        self._spec = spec
        self._stored = StoredVectors(segment, spec.dimension, spec.space) if entries(segment) else None
        changed = {*plan.deletes, *plan.replacements.ids()}
        self.ids = [row_id for row_id in self._stored.ids() if row_id not in changed] if self._stored else []
        expected = plan.counts.records - plan.inserts.num_rows - plan.replacements.num_rows
        if len(self.ids) != expected:
            raise VerificationError(f"{spec.name}: the index holds {len(self.ids)} kept vectors, the ledger {expected}")
        self._fingerprints = _fingerprints(plan.ledger, self.ids)

    def operations(self) -> Iterator[Operation]:
        """Yield an insertion for each vector. Raises VerificationError if one is not the ledger's.

        Cosine vectors cannot be compared with the ledger, because the files hold them scaled and rounded.
        """
        for ids, old, start in self._read():
            expected = self._fingerprints[start : start + len(ids)].to_pylist()
            for row_id, vector, stated in zip(ids, old.read(ids), expected, strict=True):
                body = vector.tobytes()
                if self._spec.space != "cosine" and vector_fingerprint(body) != cast("bytes", stated)[:VECTOR_BYTES]:
                    raise VerificationError(f"{self._spec.name}: the index holds a different vector for id {row_id!r}")
                yield Operation(ADD, row_id, body)

    def carry_over(self, segment: Path) -> None:
        """Verify that the new index holds the kept vectors, and copy the stored bytes of cosine vectors into it.

        ChromaDB scales and rounds a cosine vector at each rebuild: after some hundred of them the error would show.
        """
        if not self.ids:
            return
        rounded = self._spec.space == "cosine"
        built = StoredVectors(segment, self._spec.dimension, self._spec.space, writable=rounded)
        for ids, old, _ in self._read():
            wrong = differing(built.read(ids), old.read(ids), self._spec.space)
            if wrong.any():
                row_id = ids[int(np.flatnonzero(wrong)[0])]
                raise VerificationError(f"{self._spec.name}: id {row_id!r} has a different vector in the rebuilt index")
            if rounded:
                built.overwrite(ids, *old.read_stored(ids))

    def _read(self) -> Iterator[tuple[list[str], StoredVectors, int]]:
        for start in range(0, len(self.ids), ROWS_AT_ONCE):
            yield self.ids[start : start + ROWS_AT_ONCE], cast("StoredVectors", self._stored), start


def carry_over_moved(segment: Path, spec: CollectionSpec, plan: FoldPlan) -> None:
    """Copy the bytes that the old indexes held of moved cosine vectors into the new index, as `carry_over` does.

    Raises VerificationError if the new index holds a different vector. Others are compared with the files by `verify`.
    """
    if spec.space != "cosine" or not plan.moved.num_rows:
        return
    built = StoredVectors(segment, spec.dimension, spec.space, writable=True)
    for part in plan.moved.parts(ROWS_AT_ONCE, ("id", "embedding")):
        ids = ids_of(part)
        stored, lengths = stored_vectors_of(part)
        wrong = differing(built.read(ids), vectors_of(part), spec.space)
        if wrong.any():
            raise VerificationError(
                f"{spec.name}: id {ids[int(wrong.argmax())]!r} has a different vector in the new index"
            )
        if lengths is not None:
            built.overwrite(ids, stored, lengths)


def _fingerprints(ledger: pa.Table, ids: list[str]) -> pa.ChunkedArray[Any]:
    """Return the ledger's fingerprint of each id."""
    at = pc.index_in(pa.array(ids, pa.string()), value_set=ledger["id"].combine_chunks())
    if at.null_count:
        raise VerificationError(f"the index holds {at.null_count} ids that the ledger does not")
    return ledger["fingerprint"].take(at)
