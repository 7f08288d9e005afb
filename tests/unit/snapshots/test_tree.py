"""Collections that are objects of their own, and snapshots of format 1, which have none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.manifest import Manifest, Pointer
from chromadb_compaction.operations.rollback import RollbackRequest, rollback
from chromadb_compaction.operations.verify import verify_snapshot
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.snapshots.reader import SnapshotReader
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import compact


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    """Return services with a snapshot of two collections."""
    made = new_fakes(chromadb_cache_dir=tmp_path / "cache")
    compact(made, a_delta({"a": [1, 0]}, at=NOW), a_delta({"x": [1]}, collection="others", at=NOW))
    return made


def published(fakes: Fakes) -> Manifest:
    found = read_pointer(fakes.services)
    assert found
    return read_manifest(fakes.services, found.pointer)


def as_format_1(fakes: Fakes) -> str:
    """Store the published snapshot as earlier versions did: with its collections in the manifest. Return its id."""
    manifest = published(fakes)
    stored = manifest.model_dump(mode="json", exclude={"records", "bytes"}) | {"format": 1}
    stored["collections"] = {name: each.model_dump(mode="json") for name, each in manifest.collections.items()}
    body = json.dumps(stored).encode()
    fakes.objects.put(layout.manifest_key(manifest.snapshot_id), body)
    fakes.objects.delete(key for key in fakes.objects.keys("snapshot/") if key.endswith(layout.COLLECTION_FILE))
    pointer = Pointer.model_validate_json(fakes.objects.get(layout.pointer_key()).body)
    changed = pointer.model_copy(update={"manifest_sha256": hashlib.sha256(body).hexdigest()})
    fakes.objects.put(layout.pointer_key(), changed.model_dump_json().encode())
    return manifest.snapshot_id


def described(fakes: Fakes, name: str) -> str:
    return layout.collection_key(published(fakes).collections.refs[name].snapshot_id, name)


def test_a_fold_reads_and_writes_only_the_objects_of_the_collections_that_it_changes(fakes: Fakes) -> None:
    before = published(fakes).collections.refs
    fakes.objects.calls.clear()

    compact(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))

    touched = [key for _, key in fakes.objects.calls if key.endswith(layout.COLLECTION_FILE)]
    after = published(fakes).collections.refs
    assert set(touched) == {layout.collection_key(each["docs"].snapshot_id, "docs") for each in (before, after)}
    assert after["others"] == before["others"]


def test_a_snapshot_of_format_1_is_folded_to_one_of_format_2_and_rolled_back_to(fakes: Fakes) -> None:
    first = as_format_1(fakes)
    assert published(fakes).format == 1
    assert verify_snapshot(fakes.services, None, full=True).problems == []

    compact(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))

    after = published(fakes)
    assert (after.format, after.parent, after.records) == (2, first, 3)
    assert {ref.snapshot_id for ref in after.collections.refs.values()} == {after.snapshot_id}
    assert verify_snapshot(fakes.services, None, full=True).problems == []
    fakes.leases.leases.clear()
    rollback(RollbackRequest(snapshot_id=first, operator="me"), fakes.services)
    assert (published(fakes).snapshot_id, published(fakes).records) == (first, 2)
    assert verify_snapshot(fakes.services, None, full=True).problems == []


@pytest.mark.parametrize(("damage", "problem"), [("missing", "is missing"), ("altered", "SHA-256")])
def test_a_damaged_description_is_reported_and_stops_only_its_collection(
    fakes: Fakes, damage: str, problem: str
) -> None:
    key = described(fakes, "others")
    if damage == "missing":
        fakes.objects.delete([key])
    else:
        fakes.objects.put(key, fakes.objects.get(key).body + b" ")
    reader = SnapshotReader()

    with reader.reading(fakes.services, "docs") as readable:
        assert readable.described.records == 1
    with (
        pytest.raises(SnapshotCorruptError, match=f"{key} .*others.* {problem}"),
        reader.reading(fakes.services, "others"),
    ):
        pass
    reader.close()
    problems = verify_snapshot(fakes.services, None, full=False).problems
    assert len(problems) == 1
    assert key in problems[0]
    assert compact(fakes, a_delta({"b": [0, 1]}, at=NOW + 1)).published


def test_a_reader_does_not_read_an_unchanged_collection_again(fakes: Fakes) -> None:
    reader = SnapshotReader()
    for name in ("docs", "others"):
        with reader.reading(fakes.services, name):
            pass
    compact(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))
    fakes.objects.calls.clear()

    for name in ("docs", "others"):
        with reader.reading(fakes.services, name):
            pass

    reader.close()
    read = [key for _, key in fakes.objects.calls if key.endswith(layout.COLLECTION_FILE)]
    assert read == [described(fakes, "docs")]
