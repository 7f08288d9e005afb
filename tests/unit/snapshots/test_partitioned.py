"""A partitioned collection, where one directory is expected: it is refused, never taken for an empty one."""

from __future__ import annotations

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
from tests.fakes.published import ZERO, put_snapshot
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


def test_the_files_of_partitions_are_files_of_the_manifest() -> None:
    fakes = new_fakes()
    manifest = Manifest.model_validate_json(fakes.objects.objects[manifest_key(put_snapshot(fakes, 1))].body)
    manifest = manifest.model_copy(update={"collections": Collections({"docs": a_partitioned_collection()})})

    assert [file.key for file in manifest.files] == ["snapshot/0", "snapshot/1"]
