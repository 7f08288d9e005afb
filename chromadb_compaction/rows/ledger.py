"""The fold of one collection, decided on its ledger alone. Nothing is written here.

The ledger has one row per id ever seen: its newest version, its fingerprint, and whether it is deleted. It is a Parquet
table sorted by the bytes of the id. Joins are vectorised: a ledger may hold a million rows, a fold a hundred thousand.

A collection may be dropped at a version. Then the ledger loses every row of a smaller version, live or deleted, and the
manifest keeps the version of the drop instead: it stands for a tombstone of every id. The records of the lost rows are
deleted, and count as deleted in the sums. If no live row is left, the fold restarts with an empty directory, and the
collection's shape is free.

Each arriving row is compared with the ledger's row of the same id, in this order:

1. Its version is smaller than that of the drop: it is stale.
2. Its version is not greater: it is stale and changes nothing. So repeated and late deltas do no harm.
3. It is a delete: the ledger keeps it as a tombstone, even for an id never seen, so that a late older upsert cannot
   resurrect the id. If the id was live, its record is deleted.
4. It is an upsert with the fingerprint of the live row: only the version changes.
5. It is any other upsert: its record is inserted or replaced.

So the ledger has the greatest version of each id, whatever the order in which the rows arrive. Every fold is checked by
the sums of its rows (rows.fingerprints): next = base - replaced - deleted + added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, cast
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chromadb_compaction.manifest import Conservation
from chromadb_compaction.rows.fingerprints import VECTOR_BYTES, hex128, sum_rows
from chromadb_compaction.rows.run_rows import LEDGER_SCHEMA, NO_ROWS, Mask, Positions, RunRows, SelectedRows

_SLICE_ROWS = 65_536


class FoldCounts(NamedTuple):
    """Row counts of one fold. `unchanged` rows are newer but change no record; `stale` rows are not newer.

    `records` and `tombstones` count the live and deleted ids of the next ledger.
    """

    added: int
    replaced: int
    deleted: int
    unchanged: int
    stale: int
    records: int
    tombstones: int


class Drop(NamedTuple):
    """The newest drop of a collection.

    Attributes:
        version: The 16 bytes of the UUIDv7 of the delta that drops it.
        is_new: Whether the base does not know it yet.
    """

    version: bytes
    is_new: bool


class FoldPlan(NamedTuple):
    """The changes that a loader makes to the ChromaDB directory, and the ledger afterwards.

    `inserts`, `replacements` and `edits` are rows of the runs, `deletes` are ids that are live in the base. No id is in
    two of them. `edits` keep the vector of the live record, and replace only document, metadata or URI. `dropped`
    counts the rows that a drop removes from the ledger. With `restarts` the directory must be emptied first, and
    `deletes` is empty. `moved` are rows of the base for a new directory (rows.moved).
    """

    inserts: SelectedRows
    replacements: SelectedRows
    edits: SelectedRows
    deletes: list[str]
    ledger: pa.Table
    counts: FoldCounts
    conservation: Conservation
    dropped: int = 0
    restarts: bool = False
    moved: SelectedRows = NO_ROWS

    @property
    def touches_records(self) -> bool:
        """True if any record changes. If not, the ChromaDB directory stays as it is."""
        return bool(self.counts.added or self.counts.replaced or self.counts.deleted)

    @property
    def touches_ledger(self) -> bool:
        """True if any version changes. If not, the fold has nothing to publish."""
        return self.touches_records or self.counts.unchanged > 0 or self.dropped > 0

    @property
    def touches_directory(self) -> bool:
        """True if a loader has anything to do."""
        return bool(self.deletes or self.written_rows)

    @property
    def removed(self) -> list[str]:
        """The ids whose record of the base must be removed: deletes, then replacements, then edits."""
        return [*self.deletes, *self.replacements.ids(), *self.edits.ids()]

    @property
    def written_rows(self) -> int:
        """The number of rows that `written` yields."""
        return sum(rows.num_rows for rows in self._upserts)

    @property
    def written_bytes(self) -> int:
        """About the memory that these rows take, or their size in an uncompressed file."""
        return sum(rows.nbytes for rows in self._upserts)

    def written(self, most: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield every row that must be written to the directory: moved ones, replacements, edits, then inserts.

        A table has at most `most` rows, all of one kind.
        """
        return chain.from_iterable(rows.parts(most, columns) for rows in self._upserts)

    @property
    def _upserts(self) -> tuple[SelectedRows, ...]:
        return self.moved, self.replacements, self.edits, self.inserts


def plan_fold(
    ledger: pa.Table | None, arriving: RunRows, *, base: str | None = None, drop: Drop | None = None
) -> FoldPlan:
    """Compare the arriving rows with `ledger` (None: a new collection) by the rules above, and plan the fold.

    `base` is the base's sum in its manifest. Without it the sum is computed, at one to two microseconds a row.
    """
    known, rows = LEDGER_SCHEMA.empty_table() if ledger is None else ledger, arriving.keys
    restarts = drop is not None and drop.is_new and not keeps_records(known, drop.version)
    compared = since(known, drop) if restarts else known
    at = _positions(rows, compared)
    seen = at >= 0
    newer, live, same_vector, same = _compare(rows, compared, at, seen)
    newer &= ~is_dropped(rows, drop)
    upsert = ~_mask(rows["deleted"])
    inserts, replaced = newer & upsert & ~live, newer & upsert & live & ~same
    deletes = newer & ~upsert & live
    merged = _next_ledger(compared, rows, at[newer & seen], newer)
    dropped = (known if restarts else merged).filter(pa.array(is_dropped(known if restarts else merged, drop)))
    dropped_live = dropped.filter(pc.invert(dropped["deleted"]))
    next_ledger = since(merged, drop)
    conservation = Conservation(
        base=live_sum(known) if base is None else base,
        replaced=_sum(compared.take(at[replaced])),
        deleted=_sum(pa.concat_tables([compared.take(at[deletes]), dropped_live])),
        added=_sum(rows.filter(pa.array(inserts | replaced))),
        next=live_sum(next_ledger),
    )
    tombstones = int(np.count_nonzero(_mask(next_ledger["deleted"])))
    counts = FoldCounts(
        added=int(inserts.sum()),
        replaced=int(replaced.sum()),
        deleted=int(deletes.sum()) + dropped_live.num_rows,
        unchanged=int((newer & ~inserts & ~replaced & ~deletes).sum()),
        stale=int((~newer).sum()),
        records=next_ledger.num_rows - tombstones,
        tombstones=tombstones,
    )
    removed = [] if restarts else cast("list[str]", dropped_live["id"].to_pylist())
    return FoldPlan(
        inserts=arriving.select(inserts),
        replacements=arriving.select(replaced & ~same_vector),
        edits=arriving.select(replaced & same_vector),
        deletes=cast("list[str]", rows["id"].filter(pa.array(deletes)).to_pylist()) + removed,
        ledger=next_ledger,
        counts=counts,
        conservation=conservation,
        dropped=dropped.num_rows,
        restarts=restarts,
    )


def keeps_records(ledger: pa.Table, dropped_before: bytes) -> bool:
    """Return whether a live row of the ledger is newer than a drop at this version."""
    return bool((~_mask(ledger["deleted"]) & ~is_dropped(ledger, Drop(dropped_before, is_new=True))).any())


def is_dropped(rows: pa.Table, drop: Drop | None) -> Mask:
    """Return, per row, whether its version is smaller than that of the drop."""
    if drop is None:
        return np.zeros(rows.num_rows, dtype=np.bool_)
    deltas = np.ascontiguousarray(_byte_matrix(rows["delta"])).view("S16").ravel()
    return np.asarray(deltas < drop.version, dtype=np.bool_)


def since(rows: pa.Table, drop: Drop | None) -> pa.Table:
    """Return the rows that are not dropped."""
    dropped = is_dropped(rows, drop)
    return rows.filter(pa.array(~dropped)).combine_chunks() if dropped.any() else rows


def newest_delta(ledger: pa.Table) -> UUID | None:
    """Return the newest delta of which the ledger has a row. None: it has no row."""
    newest = cast("bytes | None", pc.max(ledger["delta"]).as_py())
    return None if newest is None else UUID(bytes=newest)


def newer_rows(rows: pa.Table, ledger: pa.Table) -> Mask:
    """Return, per row, whether its version is greater than that of its id in the ledger: rule 1.

    `rows` have the columns of a run, one row an id.
    """
    keys = rows.select(LEDGER_SCHEMA.names)
    at = _positions(keys, ledger)
    return _compare(keys, ledger, at, at >= 0)[0]


def _positions(rows: pa.Table, known: pa.Table) -> Positions:
    """Return the position of each row's id in the ledger, or -1. It hashes the rows, the smaller side."""
    found = cast("pa.ChunkedArray[Any]", pc.index_in(known["id"], value_set=rows["id"].combine_chunks()))
    at = np.full(rows.num_rows, -1, dtype=np.int64)
    at[found.drop_null().to_numpy()] = np.flatnonzero(found.is_valid().to_numpy())
    return at


def _compare(rows: pa.Table, known: pa.Table, at: Positions, seen: Mask) -> tuple[Mask, Mask, Mask, Mask]:
    """Return, per row: is it newer than the ledger, is its id live there, with the same vector, the same content."""
    newer, live, same_vector, same = ~seen, np.zeros_like(seen), np.zeros_like(seen), np.zeros_like(seen)
    arriving, existing = rows.filter(pa.array(seen)), known.take(at[seen])
    newer[seen] = versions(arriving) > versions(existing)
    live[seen] = ~_mask(existing["deleted"])
    equal = _byte_matrix(arriving["fingerprint"]) == _byte_matrix(existing["fingerprint"])
    same_vector[seen], same[seen] = equal[:, :VECTOR_BYTES].all(axis=1), equal.all(axis=1)
    return newer, live, same_vector, same


def versions(table: pa.Table) -> NDArray[np.bytes_]:
    """Return the version of each row as 52 bytes, which compare like (delta, row, fingerprint).

    NumPy ignores trailing NULs when it compares byte strings. All have the same length, so this changes no result.
    """
    row = table["row"].to_numpy().astype(">u4").view(np.uint8).reshape(-1, 4)
    parts = [_byte_matrix(table["delta"]), row, _byte_matrix(table["fingerprint"])]
    return np.ascontiguousarray(np.concatenate(parts, axis=1)).view("S52").ravel()


def _byte_matrix(column: pa.ChunkedArray[Any]) -> NDArray[np.uint8]:
    """Return a fixed-size binary column as a matrix of bytes."""
    values: Any = column.combine_chunks()
    width = values.type.byte_width
    if not len(values):
        return np.empty((0, width), dtype=np.uint8)
    flat = np.frombuffer(values.buffers()[1], dtype=np.uint8)
    return flat.reshape(-1, width)[values.offset : values.offset + len(values)]


def _mask(column: pa.ChunkedArray[Any]) -> Mask:
    return np.asarray(column.to_numpy(), dtype=np.bool_)


def _next_ledger(known: pa.Table, rows: pa.Table, superseded: Positions, newer: Mask) -> pa.Table:
    """Return `known` with the newer rows instead of the superseded ones, sorted by the bytes of the id."""
    if not newer.any():
        return known
    kept = np.ones(known.num_rows, dtype=np.bool_)
    kept[superseded] = False
    merged = pa.concat_tables([known.filter(pa.array(kept)), rows.filter(pa.array(newer))])
    return merged.take(pc.sort_indices(merged["id"])).combine_chunks()


def live_sum(ledger: pa.Table) -> str:
    """Return the sum of all live rows, which a manifest keeps as `conservation.next`."""
    return _sum(ledger.filter(pc.invert(ledger["deleted"])))


def _sum(table: pa.Table) -> str:
    return hex128(sum_rows(identities(table)))


def identities(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Yield each row's id and fingerprint."""
    # In slices: a million ids and fingerprints as Python objects would take 150 MB.
    for batch in table.select(["id", "fingerprint"]).to_batches(max_chunksize=_SLICE_ROWS):
        yield from zip(batch["id"].to_pylist(), batch["fingerprint"].to_pylist(), strict=True)


def encode_ledger(ledger: pa.Table) -> bytes:
    """Return a ledger as Parquet. Equal ledgers give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(ledger, sink, compression="zstd", compression_level=1, write_statistics=False)
    return sink.getvalue().to_pybytes()


def decode_ledger(body: bytes) -> pa.Table:
    """Parse the result of encode_ledger."""
    return pq.read_table(pa.BufferReader(body)).cast(LEDGER_SCHEMA)
