"""What a fold does to one collection, decided on its ledger alone; nothing is touched.

The ledger is a Parquet table sorted by id with one row per id ever seen. Joins are vectorised: a ledger may hold
a million rows, a fold a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chromadb_compaction.manifest import Conservation
from chromadb_compaction.rows.fingerprints import VECTOR_BYTES, hex128, sum_rows
from chromadb_compaction.rows.run_rows import KEY_SCHEMA, Mask, Rows, RunRows

LEDGER_SCHEMA = KEY_SCHEMA
_SLICE_ROWS = 65_536


class FoldCounts(NamedTuple):
    """Rows of one fold. `unchanged` rows are newer but say what is already so; `stale` ones are not newer.

    `records` and `tombstones` count the next ledger's live and deleted ids.
    """

    added: int
    replaced: int
    deleted: int
    unchanged: int
    stale: int
    records: int
    tombstones: int


class FoldPlan(NamedTuple):
    """What a loader must do to the ChromaDB directory, and the ledger that then describes it.

    `inserts`, `replacements` and `edits` are rows of the runs; `deletes` are ids that are live in the base. The
    four are disjoint. `edits` are replacements whose vector is the live one: only document or metadata differ.
    """

    inserts: Rows
    replacements: Rows
    edits: Rows
    deletes: list[str]
    ledger: pa.Table
    counts: FoldCounts
    conservation: Conservation

    @property
    def touches_records(self) -> bool:
        """Say whether any record differs afterwards; if not, the ChromaDB directory stays as it is."""
        return bool(self.counts.added or self.counts.replaced or self.counts.deleted)

    @property
    def removed(self) -> list[str]:
        """The ids whose record, as it is in the base, must go: those deleted, then those replaced in any part."""
        return [*self.deletes, *self.replacements.ids(), *self.edits.ids()]

    @property
    def written_rows(self) -> int:
        """How many rows `written` goes through."""
        return sum(rows.num_rows for rows in self._written)

    @property
    def written_bytes(self) -> int:
        """About what these rows take in memory, or in a file that does not pack them."""
        return sum(rows.nbytes for rows in self._written)

    def written(self, most: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield every row that the directory must hold afterwards and did not hold, as it now is, before.

        Replacements first, then edits, then inserts, at most `most` rows at once and of one kind.
        """
        return chain.from_iterable(rows.parts(most, columns) for rows in self._written)

    @property
    def _written(self) -> tuple[Rows, Rows, Rows]:
        return self.replacements, self.edits, self.inserts

    @property
    def touches_ledger(self) -> bool:
        """Say whether any version is newer than the ledger's; if not, the fold has nothing to publish."""
        return self.touches_records or self.counts.unchanged > 0


def plan_fold(ledger: pa.Table | None, arriving: RunRows, *, base: str | None = None) -> FoldPlan:
    """Compare the rows that arrive with `ledger` (None: a new collection) and plan the fold.

    A row whose version is not greater than the ledger's is stale. A newer delete leaves a tombstone, for an
    id never seen too, so that an older upsert which arrives late cannot resurrect it. A newer upsert with the
    live row's fingerprint moves the version only. `base` is the base's sum as its manifest states it;
    without it the sum is computed, which costs a microsecond or two a row.
    """
    known, rows = LEDGER_SCHEMA.empty_table() if ledger is None else ledger, arriving.keys
    at = _positions(rows, known)
    seen = at >= 0
    newer, live, same_vector, same = _compare(rows, known, at, seen)
    upsert = ~_mask(rows["deleted"])
    inserts, replaced = newer & upsert & ~live, newer & upsert & live & ~same
    deletes = newer & ~upsert & live
    following = _next_ledger(known, rows, at[newer & seen], newer)
    conservation = Conservation(
        base=live_sum(known) if base is None else base,
        replaced=_sum(known.take(at[replaced])),
        deleted=_sum(known.take(at[deletes])),
        added=_sum(rows.filter(pa.array(inserts | replaced))),
        next=live_sum(following),
    )
    tombstones = int(np.count_nonzero(_mask(following["deleted"])))
    counts = FoldCounts(
        added=int(inserts.sum()),
        replaced=int(replaced.sum()),
        deleted=int(deletes.sum()),
        unchanged=int((newer & ~inserts & ~replaced & ~deletes).sum()),
        stale=int((~newer).sum()),
        records=following.num_rows - tombstones,
        tombstones=tombstones,
    )
    return FoldPlan(
        inserts=arriving.choose(inserts),
        replacements=arriving.choose(replaced & ~same_vector),
        edits=arriving.choose(replaced & same_vector),
        deletes=cast("list[str]", rows["id"].filter(pa.array(deletes)).to_pylist()),
        ledger=following,
        counts=counts,
        conservation=conservation,
    )


def _positions(rows: pa.Table, known: pa.Table) -> NDArray[np.int64]:
    """Return, per row, where its id stands in the ledger, or -1. Hashes the rows, the smaller side."""
    found = cast("pa.ChunkedArray[Any]", pc.index_in(known["id"], value_set=rows["id"].combine_chunks()))
    at = np.full(rows.num_rows, -1, dtype=np.int64)
    at[found.drop_null().to_numpy()] = np.flatnonzero(found.is_valid().to_numpy())
    return at


def _compare(rows: pa.Table, known: pa.Table, at: NDArray[np.int64], seen: Mask) -> tuple[Mask, Mask, Mask, Mask]:
    """Say, per row: is it newer than the ledger, is its id live there, has it the vector there, and all else too."""
    newer, live, same_vector, same = ~seen, np.zeros_like(seen), np.zeros_like(seen), np.zeros_like(seen)
    mine, theirs = rows.filter(pa.array(seen)), known.take(at[seen])
    newer[seen] = _versions(mine) > _versions(theirs)
    live[seen] = ~_mask(theirs["deleted"])
    equal = _bytes(mine["fingerprint"], 32) == _bytes(theirs["fingerprint"], 32)
    same_vector[seen], same[seen] = equal[:, :VECTOR_BYTES].all(axis=1), equal.all(axis=1)
    return newer, live, same_vector, same


def _versions(table: pa.Table) -> NDArray[np.bytes_]:
    """Return each row's version as 52 bytes that compare as versions.Version does.

    NumPy pads with NUL when it compares byte strings; all are of one length, so nothing is lost by it.
    """
    row = table["row"].to_numpy().astype(">u4").view(np.uint8).reshape(-1, 4)
    parts = [_bytes(table["delta"], 16), row, _bytes(table["fingerprint"], 32)]
    return np.ascontiguousarray(np.concatenate(parts, axis=1)).view("S52").ravel()


def _bytes(column: pa.ChunkedArray[Any], width: int) -> NDArray[np.uint8]:
    """Return a fixed-size binary column as a matrix of bytes."""
    values = column.combine_chunks()
    if not len(values):
        return np.empty((0, width), dtype=np.uint8)
    # An Arrow buffer serves wherever bytes do, but its type stubs do not say so.
    flat = np.frombuffer(cast("bytes", values.buffers()[1]), dtype=np.uint8)
    return flat.reshape(-1, width)[values.offset : values.offset + len(values)]


def _mask(column: pa.ChunkedArray[Any]) -> Mask:
    return np.asarray(column.to_numpy(), dtype=np.bool_)


def _next_ledger(known: pa.Table, rows: pa.Table, superseded: NDArray[np.int64], newer: Mask) -> pa.Table:
    """Return `known` with the newer rows in place of those they supersede, sorted by the bytes of the id."""
    if not newer.any():
        return known
    kept = np.ones(known.num_rows, dtype=np.bool_)
    kept[superseded] = False
    merged = pa.concat_tables([known.filter(pa.array(kept)), rows.filter(pa.array(newer))])
    return merged.take(pc.sort_indices(merged["id"])).combine_chunks()


def live_sum(ledger: pa.Table) -> str:
    """Return the sum of all live rows: what a manifest states as its conservation's `next`."""
    return _sum(ledger.filter(pc.invert(ledger["deleted"])))


def _sum(table: pa.Table) -> str:
    return hex128(sum_rows(identities(table)))


def identities(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Yield each row's id and fingerprint."""
    # In slices: a million ids and fingerprints as Python objects at once would take 150 MB.
    for batch in table.select(["id", "fingerprint"]).to_batches(max_chunksize=_SLICE_ROWS):
        yield from zip(batch["id"].to_pylist(), batch["fingerprint"].to_pylist(), strict=True)


def encode_ledger(ledger: pa.Table) -> bytes:
    """Return a ledger as Parquet: equal ledgers give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(ledger, sink, compression="zstd", compression_level=1, write_statistics=False)
    return sink.getvalue().to_pybytes()


def decode_ledger(body: bytes) -> pa.Table:
    """Parse what encode_ledger wrote."""
    return pq.read_table(pa.BufferReader(body)).cast(LEDGER_SCHEMA)
