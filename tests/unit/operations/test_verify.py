"""Verification of a snapshot reports all problems, and a copy is made only of undamaged files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import InvalidRequestError, NoSnapshotError, NoSuchCollectionError, SnapshotCorruptError
from chromadb_compaction.manifest import Collections, Manifest, Pointer
from chromadb_compaction.operations.pull import pull_snapshot
from chromadb_compaction.operations.rollback import RollbackRequest, rollback
from chromadb_compaction.operations.verify import Verified, verify_snapshot
from chromadb_compaction.snapshots.catalogue import read_catalogue
from tests.builders import NOW, a_delta
from tests.fakes.published import parse_manifest, put_described
from tests.fakes.services import Fakes, new_fakes
from tests.passes import compact


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    """Two snapshots. The second adds `gone`, which has only seen deletes, and does not change `docs`."""
    made = new_fakes(chromadb_cache_dir=tmp_path / "cache")
    compact(made, a_delta(upserts={"a": [1, 0], "b": [0, 1]}, documents={"a": "text"}, at=NOW))
    compact(made, a_delta(deletes={"x"}, collection="gone", at=NOW + 1))
    return made


def verified(fakes: Fakes, snapshot_id: str | None = None, *, full: bool = True) -> Verified:
    return verify_snapshot(fakes.services, snapshot_id, full=full)


def manifest_of(fakes: Fakes) -> Manifest:
    pointer = Pointer.model_validate_json(fakes.objects.get(layout.pointer_key()).body)
    return parse_manifest(fakes.objects.get(layout.manifest_key(pointer.snapshot_id)).body, fakes.objects.objects)


def republish(fakes: Fakes, manifest: Manifest) -> None:
    """Publish another manifest with the right SHA-256, so that only the records show what is wrong."""
    body = manifest.model_dump_json().encode()
    fakes.objects.put(layout.manifest_key(manifest.snapshot_id), body)
    pointer = Pointer.model_validate_json(fakes.objects.get(layout.pointer_key()).body)
    changed = pointer.model_copy(update={"manifest_sha256": hashlib.sha256(body).hexdigest()})
    fakes.objects.put(layout.pointer_key(), changed.model_dump_json().encode())


def test_a_published_snapshot_has_no_problems(fakes: Fakes) -> None:
    found = verified(fakes)

    assert (found.problems, found.records) == ([], 2)
    assert found.bytes == manifest_of(fakes).bytes


def test_without_full_no_record_is_read(fakes: Fakes) -> None:
    found = verified(fakes, full=False)

    assert (found.problems, found.records) == ([], 0)


def test_an_older_snapshot_can_be_verified_too(fakes: Fakes) -> None:
    assert verified(fakes, manifest_of(fakes).parent).problems == []


def test_every_damaged_object_is_reported(fakes: Fakes) -> None:
    collections = manifest_of(fakes).collections
    altered = collections["docs"].files["chroma.sqlite3"]
    missing = collections["gone"].files[layout.LEDGER_FILE].key
    body = fakes.objects.get(altered.key).body
    fakes.objects.put(altered.key, body[: altered.end - 1] + b"x" + body[altered.end :])
    fakes.objects.delete([missing])

    problems = verified(fakes).problems

    assert len(problems) == 2
    assert any(f"{altered.key} (chroma.sqlite3 of" in each and "SHA-256" in each for each in problems)
    assert any(missing in each and "missing" in each for each in problems)


def test_a_missing_list_of_merged_deltas_is_reported(fakes: Fakes) -> None:
    key = layout.merged_deltas_key(manifest_of(fakes).snapshot_id)
    fakes.objects.delete([key])

    assert [each for each in verified(fakes, full=False).problems if key in each]


def test_an_unreadable_pointer_is_corrupt_unless_a_snapshot_is_named(fakes: Fakes) -> None:
    snapshot_id = manifest_of(fakes).snapshot_id
    fakes.objects.put(layout.pointer_key(), b"no pointer")

    with pytest.raises(SnapshotCorruptError, match="snapshot/CURRENT"):
        verified(fakes)
    assert [each for each in verified(fakes, snapshot_id).problems if "snapshot/CURRENT" in each]


def test_a_manifest_without_the_pointers_sha256_is_corrupt(fakes: Fakes) -> None:
    key = layout.manifest_key(manifest_of(fakes).snapshot_id)
    fakes.objects.put(key, fakes.objects.get(key).body + b" ")

    with pytest.raises(SnapshotCorruptError, match=r"manifest\.json .*SHA-256"):
        verified(fakes)


def test_counts_and_proof_are_computed_again_from_the_ledger(fakes: Fakes) -> None:
    manifest = manifest_of(fakes)
    docs = manifest.collections["docs"]
    # A true proof, but for other rows.
    zero, one = "0" * 32, f"{1:032x}"
    proof = {"base": zero, "replaced": zero, "deleted": zero, "added": one, "next": one}
    wrong = docs.model_copy(update={"records": 3, "conservation": docs.conservation.model_copy(update=proof)})
    ref = put_described(fakes, manifest.snapshot_id, "docs", wrong)
    changed = {"collections": Collections({"docs": ref}), "records": ref.records, "bytes": ref.bytes}
    republish(fakes, manifest.model_copy(update=changed))

    problems = verified(fakes).problems

    assert [each for each in problems if "2 live rows" in each and "says 3" in each]
    assert [each for each in problems if "conservation proof" in each]


def test_an_empty_bucket_has_nothing_to_verify() -> None:
    with pytest.raises(NoSnapshotError, match="compact --wait"):
        verify_snapshot(new_fakes().services, None, full=False)


def test_a_copy_has_a_directory_for_each_collection_that_has_records_and_no_ledger(
    fakes: Fakes, tmp_path: Path
) -> None:
    pulled = pull_snapshot(fakes.services, None, tmp_path / "copy")

    assert [(each.collection, each.directory) for each in pulled.collections] == [
        ("docs", str(tmp_path / "copy/docs")),
        ("gone", None),
    ]
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["docs"]
    assert not list((tmp_path / "copy").rglob(layout.LEDGER_FILE))


def test_a_dry_run_of_a_copy_creates_nothing(fakes: Fakes, tmp_path: Path) -> None:
    assert pull_snapshot(fakes.services, None, tmp_path / "copy", dry_run=True).bytes > 0
    assert not (tmp_path / "copy").exists()


def test_nothing_is_left_of_a_copy_with_a_damaged_file(fakes: Fakes, tmp_path: Path) -> None:
    damaged = manifest_of(fakes).collections["docs"].files["chroma.sqlite3"].key
    fakes.objects.put(damaged, b"x")

    with pytest.raises(SnapshotCorruptError, match=damaged):
        pull_snapshot(fakes.services, None, tmp_path / "to/copy")

    assert [path for path in (tmp_path / "to").rglob("*") if path.is_file()] == []


def test_a_directory_that_is_not_empty_is_refused(fakes: Fakes, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious", encoding="utf-8")

    with pytest.raises(InvalidRequestError, match="not empty"):
        pull_snapshot(fakes.services, None, tmp_path)


def test_an_unknown_collection_is_an_error_that_lists_the_known_ones(fakes: Fakes, tmp_path: Path) -> None:
    with pytest.raises(NoSuchCollectionError, match="docs, gone"):
        pull_snapshot(fakes.services, None, tmp_path / "copy", only=["dcos"])


def prune_published(fakes: Fakes) -> None:
    """Publish another snapshot, and prune the one before it with the file of `docs` that both had."""
    before = manifest_of(fakes)
    compact(fakes, a_delta(upserts={"a": [0, 1]}, at=NOW + 2))
    kept = {file.key for file in manifest_of(fakes).files}
    fakes.objects.delete([layout.manifest_key(before.snapshot_id), *{f.key for f in before.files} - kept])


def test_a_copy_begins_again_if_its_snapshot_is_pruned_meanwhile(fakes: Fakes, tmp_path: Path) -> None:
    fakes.objects.run_before_next("get_range", lambda _: prune_published(fakes))

    pulled = pull_snapshot(fakes.services, None, tmp_path / "copy")

    assert pulled.snapshot_id == manifest_of(fakes).snapshot_id
    assert (tmp_path / "copy" / "docs").is_dir()


@pytest.mark.parametrize(
    "command",
    [
        lambda fakes, snapshot_id, into: pull_snapshot(fakes.services, snapshot_id, into),
        lambda fakes, snapshot_id, _into: verified(fakes, snapshot_id, full=False),
    ],
)
def test_a_snapshot_that_is_pruned_while_it_is_read_is_not_called_damaged(
    fakes: Fakes, tmp_path: Path, command: Callable[[Fakes, str, Path], object]
) -> None:
    snapshot_id = manifest_of(fakes).snapshot_id
    fakes.objects.run_before_next("get_range", lambda _: prune_published(fakes))

    with pytest.raises(NoSnapshotError, match="was pruned while it was read") as raised:
        command(fakes, snapshot_id, tmp_path / "copy")

    assert "rollback" not in str(raised.value)


def test_a_published_manifest_that_is_deleted_is_damage_and_not_pruning(fakes: Fakes, tmp_path: Path) -> None:
    fakes.objects.delete([layout.manifest_key(manifest_of(fakes).snapshot_id)])

    with pytest.raises(SnapshotCorruptError, match=r"manifest\.json is missing"):
        pull_snapshot(fakes.services, None, tmp_path / "copy")


def test_a_catalogue_whose_published_manifest_is_pruned_while_it_is_read_is_read_again(fakes: Fakes) -> None:
    key = layout.manifest_key(manifest_of(fakes).snapshot_id)

    def before_reading(call: str, found: str) -> None:
        if (call, found) == ("get", key):
            fakes.objects.before = lambda _call, _key: None
            prune_published(fakes)

    fakes.objects.before = before_reading

    assert read_catalogue(fakes.services).find(None).manifest == manifest_of(fakes)


def first_manifest(fakes: Fakes) -> str:
    """Return the key of the manifest of the first snapshot."""
    return layout.manifest_key(str(manifest_of(fakes).parent))


def test_a_manifest_that_was_changed_after_its_child_was_made_is_damage(fakes: Fakes) -> None:
    key = first_manifest(fakes)
    manifest = Manifest.model_validate_json(fakes.objects.get(key).body)
    fakes.objects.put(key, manifest.model_copy(update={"deltas_merged": 7}).model_dump_json().encode())

    with pytest.raises(SnapshotCorruptError, match=f"{key} is not what snapshot .* says it is"):
        verified(fakes, manifest.snapshot_id, full=False)
    with pytest.raises(SnapshotCorruptError, match=key):
        rollback(RollbackRequest(snapshot_id=manifest.snapshot_id, operator="me", dry_run=True), fakes.services)


def test_a_manifest_is_proven_by_the_pointer_or_by_its_child(fakes: Fakes) -> None:
    assert verified(fakes, full=False).manifest_proven
    assert verified(fakes, manifest_of(fakes).parent, full=False).manifest_proven

    republish(fakes, manifest_of(fakes).model_copy(update={"parent_sha256": None}))

    assert not verified(fakes, manifest_of(fakes).parent, full=False).manifest_proven


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_rollback_refuses_a_file_of_the_same_size_with_other_content(fakes: Fakes, dry_run: bool) -> None:  # noqa: FBT001 - a parameter
    compact(fakes, a_delta(upserts={"a": [0, 1]}, at=NOW + 2))
    target = str(manifest_of(fakes).parent)
    now = {file.key for file in manifest_of(fakes).files}
    manifest = parse_manifest(fakes.objects.get(layout.manifest_key(target)).body, fakes.objects.objects)
    key = next(file.key for file in manifest.files if file.key not in now and file.bytes)
    body = fakes.objects.get(key).body
    fakes.objects.put(key, bytes([body[0] ^ 1]) + body[1:])
    before = fakes.objects.get(layout.pointer_key()).body
    fakes.leases.leases.clear()

    request = RollbackRequest(snapshot_id=target, operator="operator:a", dry_run=dry_run)
    with pytest.raises(SnapshotCorruptError, match=f"{key} .*SHA-256"):
        rollback(request, fakes.services)

    assert fakes.objects.get(layout.pointer_key()).body == before
