"""Expired snapshots are deleted, but no file that a kept one names."""

import json

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import TransientStorageError
from chromadb_compaction.snapshots.pruning import is_being_pruned, is_claimed, prune
from tests.fakes.published import a_snapshot_id, point_to, put_snapshot
from tests.fakes.services import Fakes, new_fakes

DAY = 86_400


def own_file(sequence: int) -> str:
    return layout.snapshot_file_key(a_snapshot_id(sequence), "docs", "chroma.sqlite3")


def a_history(count: int, *, retention: int = 1) -> Fakes:
    """Return a bucket with `count` snapshots, a day between each, the last one published."""
    fakes = new_fakes(snapshot_retention_count=retention)
    for sequence in range(1, count + 1):
        put_snapshot(fakes, sequence)
        fakes.clock.tick(DAY)
    point_to(fakes, count)
    return fakes


def snapshots_of(fakes: Fakes) -> set[str | None]:
    return {layout.snapshot_of_key(key) for key in fakes.objects.keys("snapshot/0")}


def test_expired_snapshots_are_deleted_with_all_their_objects() -> None:
    fakes = a_history(5, retention=2)
    fakes.objects.put(layout.cleaned_key(a_snapshot_id(5)), b"{}")

    pruned = prune(a_snapshot_id(5), fakes.services)

    assert pruned == (3, 9)
    assert snapshots_of(fakes) == {a_snapshot_id(4), a_snapshot_id(5)}


def test_pruning_again_finds_nothing() -> None:
    fakes = a_history(5)
    prune(a_snapshot_id(5), fakes.services)

    assert prune(a_snapshot_id(5), fakes.services) == (0, 0)


def test_young_snapshots_stay_even_if_there_are_many() -> None:
    fakes = new_fakes(snapshot_retention_count=1, snapshot_retention_days=1)
    for sequence in range(1, 20):
        put_snapshot(fakes, sequence)
        fakes.clock.tick(60)

    assert prune(a_snapshot_id(19), fakes.services) == (0, 0)


def test_a_file_that_a_kept_manifest_names_stays_under_its_old_snapshot() -> None:
    fakes = a_history(3)
    put_snapshot(fakes, 4, files=[own_file(1), own_file(4)])
    fakes.objects.put(own_file(4), b"new")
    point_to(fakes, 4)

    pruned = prune(a_snapshot_id(4), fakes.services)

    assert pruned.snapshots == 2
    assert own_file(1) in fakes.objects.objects
    assert layout.manifest_key(a_snapshot_id(1)) not in fakes.objects.objects
    assert own_file(2) not in fakes.objects.objects


def test_the_description_of_a_collection_stays_while_a_kept_snapshot_names_it() -> None:
    fakes = new_fakes(snapshot_retention_count=1)
    first = put_snapshot(fakes, 1)
    shared = fakes.objects.get(layout.manifest_key(first)).body
    for sequence in (2, 3):
        fakes.clock.tick(DAY)
        following = json.loads(shared) | {
            "snapshot_id": a_snapshot_id(sequence),
            "parent": a_snapshot_id(sequence - 1),
        }
        fakes.objects.put(layout.manifest_key(a_snapshot_id(sequence)), json.dumps(following).encode())
    fakes.clock.tick(30 * DAY)
    point_to(fakes, 3)

    pruned = prune(a_snapshot_id(3), fakes.services)

    assert pruned.snapshots == 2
    assert fakes.objects.keys(f"snapshot/{first}") == {layout.collection_key(first, "docs"), own_file(1)}


def test_a_description_that_a_kept_parent_has_too_is_not_read() -> None:
    fakes = new_fakes(snapshot_retention_count=2)
    for sequence in range(1, 4):
        put_snapshot(fakes, sequence, parent=a_snapshot_id(sequence - 1) if sequence > 1 else None)
        fakes.clock.tick(30 * DAY)
    third = json.loads(fakes.objects.get(layout.manifest_key(a_snapshot_id(3))).body)
    fourth = third | {"snapshot_id": a_snapshot_id(4), "parent": a_snapshot_id(3)}
    fakes.objects.put(layout.manifest_key(a_snapshot_id(4)), json.dumps(fourth).encode())
    point_to(fakes, 4)

    assert prune(a_snapshot_id(4), fakes.services).snapshots == 2

    asked = [key for call, key in fakes.objects.calls if call == "get" and key.endswith(layout.COLLECTION_FILE)]
    assert asked == [layout.collection_key(a_snapshot_id(3), "docs")]


def test_nothing_is_pruned_if_a_needed_description_cannot_be_read() -> None:
    fakes = a_history(3)
    fakes.objects.put(layout.collection_key(a_snapshot_id(3), "docs"), b"{}")

    assert prune(a_snapshot_id(3), fakes.services) == (0, 0)


def test_a_file_is_deleted_when_no_kept_manifest_names_it_any_more() -> None:
    fakes = a_history(3)
    put_snapshot(fakes, 4, files=[own_file(1)])
    prune(point_to(fakes, 4), fakes.services)
    fakes.clock.tick(3 * DAY)
    put_snapshot(fakes, 5)
    fakes.clock.tick(3 * DAY)

    prune(point_to(fakes, 5), fakes.services)

    assert snapshots_of(fakes) == {a_snapshot_id(5)}


def test_a_rollback_while_the_manifests_are_read_keeps_everything() -> None:
    fakes = a_history(5)

    def roll_back(call: str, key: str) -> None:
        if (call, key) == ("get", layout.manifest_key(a_snapshot_id(5))):
            point_to(fakes, 1, swap=6)

    fakes.objects.before = roll_back

    assert prune(a_snapshot_id(5), fakes.services) == (0, 0)
    assert a_snapshot_id(1) in snapshots_of(fakes)


def test_snapshots_that_were_rolled_back_from_stay() -> None:
    fakes = a_history(5)
    point_to(fakes, 2, swap=6)

    prune(a_snapshot_id(2), fakes.services)

    assert snapshots_of(fakes) == {a_snapshot_id(n) for n in (2, 3, 4, 5)}


@pytest.mark.parametrize("damage", [b"garbage", None])
def test_if_a_kept_manifest_cannot_be_read_nothing_is_deleted(damage: bytes | None) -> None:
    fakes = a_history(5)
    manifest = layout.manifest_key(a_snapshot_id(5))

    def damage_it(call: str, key: str) -> None:
        if (call, key) == ("get", manifest):
            del fakes.objects.objects[manifest]
            if damage is not None:
                fakes.objects.put(manifest, damage)

    fakes.objects.before = damage_it
    before = snapshots_of(fakes)

    assert prune(a_snapshot_id(5), fakes.services) == (0, 0)
    assert snapshots_of(fakes) == before


def test_a_temporary_failure_to_read_a_manifest_is_raised() -> None:
    fakes = a_history(5)

    def fail(call: str, key: str) -> None:
        if call == "get":
            raise TransientStorageError(key)

    fakes.objects.before = fail

    with pytest.raises(TransientStorageError):
        prune(a_snapshot_id(5), fakes.services)


def test_an_upload_in_progress_stays() -> None:
    fakes = a_history(2)
    fakes.objects.put(own_file(3), b"half")

    prune(a_snapshot_id(2), fakes.services)

    assert a_snapshot_id(3) in snapshots_of(fakes)


def test_an_upload_given_up_long_ago_is_deleted_if_its_sequence_is_older() -> None:
    fakes = new_fakes()
    fakes.objects.put(own_file(1), b"given up")
    fakes.clock.tick(3 * DAY)
    point_to(fakes, int(put_snapshot(fakes, 2)[:10]))

    pruned = prune(a_snapshot_id(2), fakes.services)

    assert pruned == (0, 1)
    assert snapshots_of(fakes) == {a_snapshot_id(2)}


def test_foreign_objects_and_the_pointer_stay() -> None:
    fakes = a_history(5)
    fakes.objects.put("snapshot/README.txt", b"hello")

    prune(a_snapshot_id(5), fakes.services)

    assert {"snapshot/README.txt", "snapshot/CURRENT"} <= fakes.objects.keys("snapshot/")


def test_a_crash_in_the_middle_leaves_no_incomplete_snapshot_with_a_manifest() -> None:
    fakes = a_history(5)
    deleted: list[str] = []

    def fail_after_five(call: str, key: str) -> None:
        if call == "delete":
            deleted.append(key)
            if len(deleted) == 6:
                raise TransientStorageError(key)

    fakes.objects.before = fail_after_five
    with pytest.raises(TransientStorageError):
        prune(a_snapshot_id(5), fakes.services)

    for sequence in range(1, 6):
        complete = layout.manifest_key(a_snapshot_id(sequence)) in fakes.objects.objects
        assert not complete or own_file(sequence) in fakes.objects.objects

    fakes.objects.before = lambda _call, _key: None
    prune(a_snapshot_id(5), fakes.services)
    assert snapshots_of(fakes) == {a_snapshot_id(5)}


def test_with_nothing_to_prune_no_manifest_is_read() -> None:
    fakes = a_history(1)
    fakes.objects.calls.clear()

    prune(a_snapshot_id(1), fakes.services)

    kept = layout.kept_key()
    assert fakes.objects.calls == [
        ("get", kept),
        ("list", "snapshot/"),
        ("get", layout.pointer_key()),
        ("put", kept),
    ]


def marks(fakes: Fakes) -> set[str]:
    return {key for key in fakes.objects.objects if "/pruning-" in key or "/claim-" in key}


def claim(fakes: Fakes, sequence: int) -> None:
    fakes.objects.put(f"{layout.claim_prefix(a_snapshot_id(sequence))}0123456789abcdef.json", b"{}")


def test_if_a_rollback_has_claimed_a_snapshot_nothing_is_deleted() -> None:
    fakes = a_history(5)
    claim(fakes, 2)
    before = set(fakes.objects.objects)

    assert prune(a_snapshot_id(5), fakes.services) == (0, 0)
    assert set(fakes.objects.objects) == before


@pytest.mark.parametrize("name", ["pruning-notes", "claim-notes"])
def test_a_collection_is_not_taken_for_a_mark(name: str) -> None:
    fakes = a_history(3)
    for sequence in (1, 2):
        fakes.objects.put(layout.snapshot_file_key(a_snapshot_id(sequence), name, "chroma.sqlite3"), b"x")

    assert not is_being_pruned(a_snapshot_id(2), fakes.services)
    assert not is_claimed([a_snapshot_id(2)], fakes.services)


def test_an_old_claim_of_a_crashed_rollback_has_no_effect() -> None:
    fakes = a_history(5)
    claim(fakes, 2)
    fakes.clock.tick(2 * DAY)

    prune(a_snapshot_id(5), fakes.services)

    assert snapshots_of(fakes) == {a_snapshot_id(5)}


def test_a_snapshot_is_marked_before_its_claims_are_listed() -> None:
    fakes = a_history(2)
    (mark, claims) = (layout.pruning_prefix(a_snapshot_id(1)), layout.claim_prefix(a_snapshot_id(1)))
    marked: list[bool] = []

    def record_mark(call: str, key: str) -> None:
        if (call, key) == ("list", claims):
            marked.append(any(each.startswith(mark) for each in fakes.objects.objects))

    fakes.objects.before = record_mark
    prune(a_snapshot_id(2), fakes.services)

    assert marked == [True]
    assert marks(fakes) == set()


def test_a_rollback_after_the_mark_keeps_everything_and_the_mark_is_deleted() -> None:
    fakes = a_history(5)

    def roll_back(call: str, key: str) -> None:
        if call == "list" and "/claim-" in key:
            point_to(fakes, 1, swap=6)

    fakes.objects.before = roll_back

    assert prune(a_snapshot_id(5), fakes.services) == (0, 0)
    assert snapshots_of(fakes) == {a_snapshot_id(n) for n in range(1, 6)}
    assert marks(fakes) == set()


def test_a_file_in_the_folder_of_a_function_that_folded_for_a_kept_snapshot_stays() -> None:
    fakes = new_fakes(snapshot_retention_count=3)
    elsewhere = layout.snapshot_file_key("0000000002-eeeeeeee", "docs", "chroma.sqlite3")
    put_snapshot(fakes, 1)
    put_snapshot(fakes, 2, files=[elsewhere], parent=a_snapshot_id(1))
    fakes.clock.tick(30 * DAY)
    put_snapshot(fakes, 3, parent=a_snapshot_id(2))
    point_to(fakes, 3)

    prune(a_snapshot_id(3), fakes.services)

    assert layout.manifest_key(a_snapshot_id(1)) in fakes.objects.objects
    assert elsewhere in fakes.objects.objects
