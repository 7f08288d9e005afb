"""A partitioned collection, where one directory is expected: it is refused, never taken for an empty one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chromadb_compaction.errors import NewerFormatError
from chromadb_compaction.layout import manifest_key
from chromadb_compaction.manifest import (
    Collections,
    CollectionSnapshot,
    Conservation,
    Manifest,
    PartitionSnapshot,
    StoredFile,
    totals,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.base import take_copies
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from tests.fakes.published import ZERO, a_snapshot_id, point_to, put_described, put_snapshot
from tests.fakes.services import new_fakes


def a_partitioned_collection() -> CollectionSnapshot:
    nothing = Conservation(base=ZERO, replaced=ZERO, deleted=ZERO, added=ZERO, next=ZERO)
    parts = [
        PartitionSnapshot(
            first=first,
            records=1,
            tombstones=0,
            conservation=nothing,
            files={"chroma.sqlite3": StoredFile(key=f"snapshot/{number}", bytes=1, sha256="a" * 64)},
        )
        for number, first in enumerate(["", "m"])
    ]
    return CollectionSnapshot.model_validate(
        {"dimension": 2, "space": "l2", "embedding_function": None, "files": {}, "partitions": parts, **totals(parts)}
    )


def by_a_fold(services: Services, manifest: Manifest, scratch: Path) -> None:
    take_copies(services, manifest, ["docs"], scratch / "copies")


@pytest.mark.parametrize("use", [by_a_fold])
def test_a_partitioned_collection_is_refused(use: Callable[[Services, Manifest, Path], None], tmp_path: Path) -> None:
    fakes = new_fakes(chromadb_cache_dir=str(tmp_path / "cache"))
    key = manifest_key(put_snapshot(fakes, 1))
    ref = put_described(fakes, a_snapshot_id(1), "docs", a_partitioned_collection())
    stored = Manifest.model_validate_json(fakes.objects.objects[key].body)
    stored = stored.model_copy(
        update={"collections": Collections({"docs": ref}), "records": ref.records, "bytes": ref.bytes}
    )
    fakes.objects.put(key, stored.model_dump_json().encode())
    point_to(fakes, 1)
    current = read_pointer(fakes.services)
    assert current is not None
    manifest = read_manifest(fakes.services, current.pointer)

    with pytest.raises(NewerFormatError, match="docs: the collection has 2 partitions"):
        use(fakes.services, manifest, tmp_path)


def test_the_files_of_partitions_are_files_of_the_manifest() -> None:
    fakes = new_fakes()
    manifest = Manifest.model_validate_json(fakes.objects.objects[manifest_key(put_snapshot(fakes, 1))].body)
    manifest = manifest.model_copy(update={"collections": Collections({"docs": a_partitioned_collection()})})

    assert [file.key for file in manifest.files] == ["snapshot/0", "snapshot/1"]
