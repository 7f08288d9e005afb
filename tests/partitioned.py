"""Two buckets with the same rows: in one a collection is one directory, in the other it has partitions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from chromadb_compaction import layout
from chromadb_compaction.configuration import KeptSettings
from chromadb_compaction.fold.fold import FoldRequest, FoldResult, fold_collection
from chromadb_compaction.manifest import (
    Collections,
    CollectionSnapshot,
    Manifest,
    PartitionSnapshot,
    Pointer,
    StoredFile,
    totals,
)
from chromadb_compaction.ports import StoredObject
from chromadb_compaction.rows.id_ranges import IdRange, ranges
from chromadb_compaction.rows.ledger import encode_ledger
from chromadb_compaction.rows.run_rows import LEDGER_SCHEMA
from chromadb_compaction.snapshots.cache import files_below
from chromadb_compaction.snapshots.tree.descriptions import describe
from tests.builders import BuiltDelta
from tests.fakes.published import parse_manifest
from tests.fakes.services import EXECUTION, Fakes, new_fakes
from tests.passes import Pass

CHROMA = "chroma"
_numbers = count()


class PartitionedBucket:
    """A bucket whose collection `docs` is one directory, and one in which it is divided.

    Every object is in both under the same key, except for the files and the description of `docs`, the manifests, and
    the pointer. The partitions are folded from the runs that the passes over the first bucket have left.

    Args:
        folder: An empty directory.
        firsts: The first id of each partition.
        settings: Environment variables in lower case.
    """

    def __init__(self, folder: Path, firsts: Sequence[str], **settings: object) -> None:
        self.single = new_fakes(chromadb_cache_dir=folder / "single-cache", **settings)
        self.divided = new_fakes(chromadb_cache_dir=folder / "divided-cache", **settings)
        self._folder = folder
        self._ranges = ranges(firsts)
        self._settings: KeptSettings | None = None
        self._folded: dict[IdRange, FoldResult] = {}
        self._stored: dict[IdRange, PartitionSnapshot] = {}
        self._sha256: str | None = None
        # The objects of the divided bucket alone, and the keys of those of the other bucket that it does not have.
        self._own: dict[str, StoredObject] = {}
        self._replaced = {layout.pointer_key()}

    @property
    def both(self) -> tuple[Fakes, Fakes]:
        """The bucket with one directory, and the divided one."""
        return self.single, self.divided

    def write(self, *deltas: BuiltDelta) -> None:
        """Store pending deltas in both buckets."""
        for delta in deltas:
            for fakes in self.both:
                delta.put_into(fakes.objects)

    def compact(self, *deltas: BuiltDelta) -> str:
        """Store deltas and merge all that is pending, in both buckets. Return the snapshot's id, which is the same."""
        self.write(*deltas)
        one = Pass(self.single, f"{EXECUTION}-{next(_numbers)}").up_to_upload()
        runs = [self._save(merged.run) for merged in one.runs if merged.run]
        published = one.upload()
        one.clean_up(published)
        assert published.snapshot_id is not None
        objects = self.single.objects
        manifest = parse_manifest(objects.get(layout.manifest_key(published.snapshot_id)).body, objects.objects)
        described = manifest.collections["docs"]
        parts = [self._fold(described, ids, runs, published.snapshot_id) for ids in self._ranges]
        self._settings = described.settings_with_function
        self._publish(manifest, described, parts)
        return published.snapshot_id

    def _save(self, run: str) -> Path:
        path = self._folder / f"run-{next(_numbers)}.parquet"
        path.write_bytes(self.single.objects.get(run).body)
        return path

    def _fold(
        self, described: CollectionSnapshot, ids: IdRange, runs: list[Path], snapshot_id: str
    ) -> PartitionSnapshot:
        directory = self._folder / layout.partition_folder(ids.first)
        directory.mkdir(exist_ok=True)
        before, ledger = self._folded.get(ids), directory / layout.LEDGER_FILE
        result = fold_collection(
            FoldRequest(
                collection="docs",
                dimension=before.dimension if before else None,
                space=described.space,
                directory=directory / CHROMA,
                ledger=ledger if before else None,
                base_sum=before.conservation.next if before else None,
                runs=runs,
                next_ledger=ledger,
                settings=described.settings_with_function,
                base_settings=self._settings,
                ids=ids,
            )
        )
        if not ledger.exists():
            ledger.write_bytes(encode_ledger(LEDGER_SCHEMA.empty_table()))
        if result.changed or before is None:
            self._folded[ids] = result
            self._stored[ids] = PartitionSnapshot(
                first=ids.first,
                records=result.counts.records,
                tombstones=result.counts.tombstones,
                conservation=result.conservation,
                files=self._upload(directory, ids, snapshot_id),
                newest=result.newest,
            )
        return self._stored[ids]

    def _upload(self, directory: Path, ids: IdRange, snapshot_id: str) -> dict[str, StoredFile]:
        files = {layout.LEDGER_FILE: directory / layout.LEDGER_FILE, **files_below(directory / CHROMA)}
        before = self._stored[ids].files if ids in self._stored else {}
        stored = {}
        for path, file in files.items():
            body = file.read_bytes()
            key = layout.snapshot_file_key(snapshot_id, "docs", f"{layout.partition_folder(ids.first)}/{path}")
            described = StoredFile(key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
            if path in before and before[path].sha256 == described.sha256:
                described = before[path]
            else:
                self._put(key, body)
            stored[path] = described
        return stored

    def _publish(self, single: Manifest, described: CollectionSnapshot, parts: list[PartitionSnapshot]) -> None:
        fields = described.model_dump(exclude={"files"}) | {"files": {}, "partitions": parts}
        divided = CollectionSnapshot.model_validate(fields | totals(parts))
        entry = describe(single.snapshot_id, "docs", divided, prefix=layout.SNAPSHOT_PREFIX)
        self._put(entry.key, entry.body)
        changed = {
            "collections": Collections({**single.collections.entries, "docs": entry.ref}),
            "parent_sha256": self._sha256,
            "bytes": single.bytes - described.bytes + divided.bytes,
        }
        manifest = single.model_copy(update=changed).model_dump_json().encode()
        self._sha256 = hashlib.sha256(manifest).hexdigest()
        self._put(layout.manifest_key(single.snapshot_id), manifest)
        pointer = Pointer.model_validate_json(self.single.objects.get(layout.pointer_key()).body)
        pointer = pointer.model_copy(update={"manifest_sha256": self._sha256})
        self._put(layout.pointer_key(), pointer.model_dump_json().encode())
        self._replaced |= {file.key for file in described.files.values()}
        shared = {key: each for key, each in self.single.objects.objects.items() if key not in self._replaced}
        self.divided.objects.objects = shared | self._own

    def _put(self, key: str, body: bytes) -> None:
        self.divided.objects.put(key, body)
        self._own[key] = self.divided.objects.objects[key]
