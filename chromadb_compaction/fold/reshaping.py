"""Prepare the fold of a range of ids that is not exactly one directory of the base: a split, a merge, or both.

The live rows of the range are read out of the local copies of the base's directories into a run, and the ledgers are
restricted to the range and joined. The fold then builds a new directory from these and from the arriving runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction.chroma.client import SQLITE_FILE, CollectionSpec
from chromadb_compaction.chroma.export.rows import export_rows
from chromadb_compaction.chroma.loader import Progress
from chromadb_compaction.configuration import Space
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.layout import LEDGER_FILE
from chromadb_compaction.manifest import Fingerprint128
from chromadb_compaction.rows.id_ranges import IdRange
from chromadb_compaction.rows.ledger import decode_ledger, encode_ledger, live_sum
from chromadb_compaction.rows.native_memory import trim_memory
from chromadb_compaction.rows.run_rows import LEDGER_SCHEMA
from chromadb_compaction.rows.runs import RunWriter

MOVED_FILE: Final = "moved.parquet"


class Source:
    """A directory of the base, as a local copy that holds its ledger too.

    Its ledger is read and checked once, so use one object for all units that take rows from it.

    Args:
        directory: The closed copy. It is not changed.
        next_sum: The `next` sum of its conservation in the manifest.
    """

    def __init__(self, directory: Path, next_sum: Fingerprint128) -> None:
        self.directory = directory
        self.next_sum = next_sum

    @cached_property
    def ledger(self) -> pa.Table:
        """The ledger. Raises VerificationError if its sum is not that of the manifest."""
        ledger = decode_ledger((self.directory / LEDGER_FILE).read_bytes())
        found = live_sum(ledger)
        if found != self.next_sum:
            raise VerificationError(
                f"{self.directory.name}: the rows of the ledger have the sum {found}, and the manifest {self.next_sum}"
            )
        return ledger


class Reshaped(NamedTuple):
    """The base of one unit, for its FoldRequest: `ledger`, `moved` and `base_sum`."""

    ledger: Path
    moved: Path
    base_sum: Fingerprint128


def reshape(
    sources: Sequence[Source],
    ids: IdRange,
    *,
    collection: str,
    dimension: int | None,
    space: Space,
    into: Path,
    progress: Progress = lambda: None,
) -> Reshaped:
    """Write the base's ledger and live rows of `ids` to files in `into`, which is created.

    Only the rows of `ids` are read, in bounded memory. The ledger proves them, as `export_rows` states.

    Args:
        sources: The directories whose ranges intersect `ids`, in the order of their ids.
        ids: The range of the unit.
        collection: The name of the collection.
        dimension: The base's. None: it has no records.
        space: The base's distance.
        into: A directory that does not exist.
        progress: Called between batches. An exception from it stops the work.

    Raises VerificationError if a ledger is not the one that the manifest describes, or if a record is not what its
    ledger says.
    """
    into.mkdir(parents=True)
    ledger, moved = into / LEDGER_FILE, into / MOVED_FILE
    parts = [source.ledger.filter(pa.array(ids.mask(source.ledger["id"]))) for source in sources]
    joined = pa.concat_tables([LEDGER_SCHEMA.empty_table(), *parts]).combine_chunks()
    if not pc.all(pc.less(joined["id"][:-1], joined["id"][1:]), min_count=0).as_py():
        raise VerificationError(f"{collection}: the ledgers of its directories overlap, or are not in order")
    ledger.write_bytes(encode_ledger(joined))
    with RunWriter(moved, dimension, scaled=dimension is not None and space == "cosine") as run:
        for source, part in zip(sources, parts, strict=True):
            live = part.filter(pc.invert(part["deleted"]))
            for rows in _rows_of(source, CollectionSpec(collection, dimension or 1, space), ids, live):
                progress()
                run.write(rows)
    trim_memory()
    return Reshaped(ledger, moved, live_sum(joined))


def _rows_of(source: Source, spec: CollectionSpec, ids: IdRange, live: pa.Table) -> Iterator[pa.Table]:
    """Return the rows of one directory. Raises VerificationError if it is missing, but has live rows."""
    if (source.directory / SQLITE_FILE).exists():
        return export_rows(source.directory, spec, ids, live)
    if live.num_rows:
        raise VerificationError(f"{spec.name}: {source.directory} holds no ChromaDB database")
    return iter(())
