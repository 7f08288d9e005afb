"""Measure a pass over one of very many collections, and the same pass over one of few.

All tasks run in this process, with a bucket in memory, so that nothing but their own work counts. What a pass does not
touch is only named by the manifest: it has no objects.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from itertools import count
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from benchmarks.report import Reference, Row
from benchmarks.workload import records
from chromadb_compaction import layout
from chromadb_compaction.manifest import CollectionRef, Pointer
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.snapshots.tree.shards import Changes, next_collections
from tests.builders import NOW, BuiltDelta, a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import compact

FEW: Final = 20
MANY: Final = 20_000
PASSES: Final = 25
"""The measured passes of each, in turn."""
WARM_UP: Final = 4
MOST: Final = 1.3
"""The most seconds with MANY collections, as a ratio to those with FEW."""
ROWS: Final = 5
HOUR: Final = 3600
DIMENSION: Final = 384
UNKNOWN: Final = CollectionRef(snapshot_id="0000000001-00000000", sha256="0" * 64, records=ROWS, bytes=60_000)
"""A collection that no pass touches."""


class Cost(NamedTuple):
    """The cost of one pass."""

    processor: float
    seconds: float
    calls: int


def one_of_many_rows() -> Iterator[Row]:
    """Measure passes in turn over one of FEW and over one of MANY collections."""
    with (
        TemporaryDirectory(prefix="chromadb-benchmark-") as few,
        TemporaryDirectory(prefix="chromadb-benchmark-") as many,
    ):
        worlds = _Bucket(FEW, few), _Bucket(MANY, many)
        for _ in range(WARM_UP):
            for each in worlds:
                each.measure()
        pairs = [(worlds[0].measure(), worlds[1].measure()) for _ in range(PASSES)]
    part = f"one of {MANY:,} collections, in memory"
    for what, field, unit, scale in (("processor", 0, "ms", 1000), ("pass", 1, "ms", 1000), ("calls", 2, "calls", 1)):
        of_few, of_many = ([scale * pair[side][field] for pair in pairs] for side in (0, 1))
        reference = Reference(name="without", value=median(of_few), limit=MOST, repeated=of_few)
        yield Row(part=part, what=what, value=median(of_many), unit=unit, references=[reference], repeated=of_many)


class _Bucket:
    """A bucket with `collections`, of which one gets a delta of ROWS records an hour, and an old snapshot is pruned."""

    def __init__(self, collections: int, cache: str) -> None:
        self._fakes = new_fakes(chromadb_cache_dir=cache, snapshot_retention_count=2, snapshot_retention_days=2 / 24)
        self._numbers = count()
        compact(self._fakes, self._delta())
        _add_collections(self._fakes, collections - 1)

    def measure(self) -> Cost:
        """Return the cost of one pass."""
        fakes, delta = self._fakes, self._delta()
        fakes.clock.tick(HOUR)
        calls, started, processor = fakes.calls, time.perf_counter(), time.process_time()
        compact(fakes, delta)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        return Cost(processor, seconds, fakes.calls - calls)

    def _delta(self) -> BuiltDelta:
        number = next(self._numbers)
        rows = records(DIMENSION, seed=number, ids=[f"{number}-{row}" for row in range(ROWS)])
        return a_delta(dict(zip(rows.ids, rows.embeddings.tolist(), strict=True)), at=NOW + number)


def _add_collections(fakes: Fakes, number: int) -> None:
    """Publish the snapshot again, as one that has `number` collections more."""
    published = read_pointer(fakes.services)
    if published is None:
        raise RuntimeError("nothing was published")
    manifest = read_manifest(fakes.services, published.pointer)
    changes = Changes({f"customer-{each:06d}": UNKNOWN for each in range(number)}, {})
    after = next_collections(manifest, changes, snapshot_id=manifest.snapshot_id, prefix=layout.SNAPSHOT_PREFIX)
    stated = {"format": after.format, "collections": after.collections}
    of_collections = {"records": after.collections.totals[0], "bytes": after.collections.totals[1]}
    body = manifest.model_copy(update={**stated, **of_collections}).model_dump_json().encode()
    for key, shard in after.shards.items():
        fakes.objects.put(key, shard)
    fakes.objects.put(layout.manifest_key(manifest.snapshot_id), body)
    pointer = published.pointer.model_copy(update={"manifest_sha256": hashlib.sha256(body).hexdigest()})
    fakes.objects.put(layout.pointer_key(), Pointer.model_validate(pointer).model_dump_json().encode())
