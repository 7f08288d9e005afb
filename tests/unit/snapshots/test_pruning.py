"""Old snapshots go, and never a file that a kept one names."""

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import TransientStorageError
from chromadb_compaction.snapshots.pruning import prune
from tests.fakes.cloud import Cloud, a_cloud
from tests.fakes.published import a_snapshot_id, point_to, put_snapshot

DAY = 86_400


def own_file(sequence: int) -> str:
    return layout.snapshot_file_key(a_snapshot_id(sequence), "docs", "chroma.sqlite3")


def a_history(count: int, *, retention: int = 1) -> Cloud:
    """Return a cloud with `count` snapshots, a day between each, the last published."""
    cloud = a_cloud(snapshot_retention_count=retention)
    for sequence in range(1, count + 1):
        put_snapshot(cloud, sequence)
        cloud.clock.tick(DAY)
    point_to(cloud, count)
    return cloud


def standing(cloud: Cloud) -> set[str | None]:
    return {layout.snapshot_of_key(key) for key in cloud.objects.keys("snapshot/0")}


def test_snapshots_neither_new_nor_young_go_with_all_their_objects() -> None:
    cloud = a_history(5, retention=2)
    cloud.objects.put(layout.cleaned_key(a_snapshot_id(5)), b"{}")

    pruned = prune(a_snapshot_id(5), cloud.services)

    assert pruned == (3, 6)
    assert standing(cloud) == {a_snapshot_id(4), a_snapshot_id(5)}


def test_pruning_again_finds_nothing() -> None:
    cloud = a_history(5)
    prune(a_snapshot_id(5), cloud.services)

    assert prune(a_snapshot_id(5), cloud.services) == (0, 0)


def test_young_snapshots_stay_however_many_they_are() -> None:
    cloud = a_cloud(snapshot_retention_count=1, snapshot_retention_days=1)
    for sequence in range(1, 20):
        put_snapshot(cloud, sequence)
        cloud.clock.tick(60)

    assert prune(a_snapshot_id(19), cloud.services) == (0, 0)


def test_a_file_that_a_kept_manifest_names_stays_under_its_old_snapshot() -> None:
    cloud = a_history(3)
    put_snapshot(cloud, 4, files=[own_file(1), own_file(4)])
    cloud.objects.put(own_file(4), b"new")
    point_to(cloud, 4)

    pruned = prune(a_snapshot_id(4), cloud.services)

    assert pruned.snapshots == 2
    assert own_file(1) in cloud.objects.objects
    assert layout.manifest_key(a_snapshot_id(1)) not in cloud.objects.objects
    assert own_file(2) not in cloud.objects.objects


def test_a_file_goes_once_no_kept_manifest_names_it_any_more() -> None:
    cloud = a_history(3)
    put_snapshot(cloud, 4, files=[own_file(1)])
    prune(point_to(cloud, 4), cloud.services)
    cloud.clock.tick(3 * DAY)
    put_snapshot(cloud, 5)
    cloud.clock.tick(3 * DAY)

    prune(point_to(cloud, 5), cloud.services)

    assert standing(cloud) == {a_snapshot_id(5)}


def test_a_rollback_while_the_manifests_are_read_keeps_everything() -> None:
    cloud = a_history(5)

    def roll_back(call: str, key: str) -> None:
        if (call, key) == ("get", layout.manifest_key(a_snapshot_id(5))):
            point_to(cloud, 1, swap=6)

    cloud.objects.before = roll_back

    assert prune(a_snapshot_id(5), cloud.services) == (0, 0)
    assert a_snapshot_id(1) in standing(cloud)


def test_what_was_rolled_back_from_stays() -> None:
    cloud = a_history(5)
    point_to(cloud, 2, swap=6)

    prune(a_snapshot_id(2), cloud.services)

    assert standing(cloud) == {a_snapshot_id(n) for n in (2, 3, 4, 5)}


@pytest.mark.parametrize("damage", [b"garbage", None])
def test_if_a_kept_manifest_cannot_be_read_nothing_goes(damage: bytes | None) -> None:
    cloud = a_history(5)
    manifest = layout.manifest_key(a_snapshot_id(5))

    def damage_it(call: str, key: str) -> None:
        if (call, key) == ("get", manifest):
            del cloud.objects.objects[manifest]
            if damage is not None:
                cloud.objects.put(manifest, damage)

    cloud.objects.before = damage_it
    before = standing(cloud)

    assert prune(a_snapshot_id(5), cloud.services) == (0, 0)
    assert standing(cloud) == before


def test_a_manifest_that_cannot_be_fetched_just_now_is_left_to_a_retry() -> None:
    cloud = a_history(5)

    def fail(call: str, key: str) -> None:
        if call == "get":
            raise TransientStorageError(key)

    cloud.objects.before = fail

    with pytest.raises(TransientStorageError):
        prune(a_snapshot_id(5), cloud.services)


def test_an_upload_under_way_stays() -> None:
    cloud = a_history(2)
    cloud.objects.put(own_file(3), b"half")

    prune(a_snapshot_id(2), cloud.services)

    assert a_snapshot_id(3) in standing(cloud)


def test_an_upload_given_up_long_ago_goes_but_only_under_an_older_number() -> None:
    cloud = a_cloud()
    cloud.objects.put(own_file(1), b"given up")
    cloud.clock.tick(3 * DAY)
    point_to(cloud, int(put_snapshot(cloud, 2)[:10]))

    pruned = prune(a_snapshot_id(2), cloud.services)

    assert pruned == (0, 1)
    assert standing(cloud) == {a_snapshot_id(2)}


def test_strangers_and_the_pointer_are_left_alone() -> None:
    cloud = a_history(5)
    cloud.objects.put("snapshot/README.txt", b"hello")

    prune(a_snapshot_id(5), cloud.services)

    assert {"snapshot/README.txt", "snapshot/CURRENT"} <= cloud.objects.keys("snapshot/")


def test_a_crash_in_the_middle_leaves_no_snapshot_that_could_be_rolled_back_to_in_pieces() -> None:
    cloud = a_history(5)
    deleted: list[str] = []

    def fail_after_five(call: str, key: str) -> None:
        if call == "delete":
            deleted.append(key)
            if len(deleted) == 6:
                raise TransientStorageError(key)

    cloud.objects.before = fail_after_five
    with pytest.raises(TransientStorageError):
        prune(a_snapshot_id(5), cloud.services)

    for sequence in range(1, 6):
        complete = layout.manifest_key(a_snapshot_id(sequence)) in cloud.objects.objects
        assert not complete or own_file(sequence) in cloud.objects.objects

    cloud.objects.before = lambda _call, _key: None
    prune(a_snapshot_id(5), cloud.services)
    assert standing(cloud) == {a_snapshot_id(5)}


def test_with_nothing_to_prune_no_manifest_is_read() -> None:
    cloud = a_history(1)
    cloud.objects.calls.clear()

    prune(a_snapshot_id(1), cloud.services)

    assert cloud.objects.calls == [("list", "snapshot/")]


def marks(cloud: Cloud) -> set[str]:
    return {key for key in cloud.objects.objects if "/pruning-" in key or "/claim-" in key}


def claim(cloud: Cloud, sequence: int) -> None:
    cloud.objects.put(f"{layout.claim_prefix(a_snapshot_id(sequence))}0123456789abcdef.json", b"{}")


def test_what_a_rollback_has_claimed_stays_and_so_does_everything_else() -> None:
    cloud = a_history(5)
    claim(cloud, 2)
    before = set(cloud.objects.objects)

    assert prune(a_snapshot_id(5), cloud.services) == (0, 0)
    assert set(cloud.objects.objects) == before


def test_the_claim_of_a_rollback_that_died_long_ago_keeps_nothing() -> None:
    cloud = a_history(5)
    claim(cloud, 2)
    cloud.clock.tick(2 * DAY)

    prune(a_snapshot_id(5), cloud.services)

    assert standing(cloud) == {a_snapshot_id(5)}


def test_a_snapshot_is_marked_before_anybody_asks_whether_it_is_claimed() -> None:
    cloud = a_history(2)
    (mark, claims) = (layout.pruning_prefix(a_snapshot_id(1)), layout.claim_prefix(a_snapshot_id(1)))
    marked: list[bool] = []

    def look(call: str, key: str) -> None:
        if (call, key) == ("list", claims):
            marked.append(any(each.startswith(mark) for each in cloud.objects.objects))

    cloud.objects.before = look
    prune(a_snapshot_id(2), cloud.services)

    assert marked == [True]
    assert marks(cloud) == set()


def test_a_rollback_after_the_mark_was_left_keeps_everything_and_the_mark_goes() -> None:
    cloud = a_history(5)

    def roll_back(call: str, key: str) -> None:
        if call == "list" and "/claim-" in key:
            point_to(cloud, 1, swap=6)

    cloud.objects.before = roll_back

    assert prune(a_snapshot_id(5), cloud.services) == (0, 0)
    assert standing(cloud) == {a_snapshot_id(n) for n in range(1, 6)}
    assert marks(cloud) == set()
