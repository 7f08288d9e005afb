from __future__ import annotations

import json

import pytest

from chromadb_compaction import layout
from chromadb_compaction.deltas.outcomes import QuarantineReason, pack_outcomes
from chromadb_compaction.errors import (
    DeltasGoneError,
    InvalidRequestError,
    LockHeldError,
    NoSnapshotError,
    ObjectMissingError,
    SnapshotConflictError,
    SnapshotCorruptError,
    TransientStorageError,
)
from chromadb_compaction.operations.rollback import RollbackRequest, rollback
from chromadb_compaction.snapshots.delta_lists import read_list
from chromadb_compaction.snapshots.missing_pointer import restored_pointer
from tests.fakes.published import a_snapshot_id, point_to, put_delta, put_snapshot
from tests.fakes.services import EXECUTION
from tests.merged_history import OPERATOR, MergedHistory

DAYS = 2 * 86_400


def test_rolling_back_publishes_the_older_snapshot_with_a_greater_sequence(history: MergedHistory) -> None:
    before = history.pointer

    done = history.roll_back(2)

    assert (done.previous, done.swapped, done.undone) == (a_snapshot_id(4), True, [a_snapshot_id(4), a_snapshot_id(3)])
    assert history.pointer.snapshot_id == a_snapshot_id(2)
    assert history.pointer.sequence == before.sequence + 1
    assert history.pointer.commit_id.startswith(OPERATOR)
    assert history.pending == set()


def test_with_replay_every_delta_merged_since_is_pending_again(history: MergedHistory) -> None:
    done = history.roll_back(2, replay=True)

    assert history.pending == {history.merged[3], history.merged[4]} == set(done.replayed)
    assert history.fakes.objects.keys("compacted/") >= {layout.compacted_key(key) for key in history.pending}


def test_the_lock_is_free_again_afterwards(history: MergedHistory) -> None:
    history.roll_back(2, replay=True)

    assert history.fakes.leases.leases == {}


def test_while_an_execution_holds_the_lock_nothing_is_rolled_back(history: MergedHistory) -> None:
    history.fakes.hold_lease()

    with pytest.raises(LockHeldError, match=EXECUTION):
        history.roll_back(2, replay=True)

    assert history.pointer.snapshot_id == a_snapshot_id(4)
    assert history.pending == set()


def test_a_dry_run_changes_nothing_and_takes_no_lock(history: MergedHistory) -> None:
    objects = dict(history.fakes.objects.objects)

    planned = history.roll_back(2, replay=True, dry_run=True)

    assert set(planned.replayed) == {history.merged[3], history.merged[4]}
    assert history.fakes.objects.objects == objects
    assert history.fakes.leases.calls == []


def test_a_dry_run_returns_the_result_of_the_rollback(history: MergedHistory) -> None:
    planned = history.roll_back(2, replay=True, dry_run=True)

    assert history.roll_back(2, replay=True) == planned.model_copy(update={"dry_run": False})


def test_a_snapshot_with_a_missing_file_is_refused_naming_the_file(history: MergedHistory) -> None:
    key = layout.snapshot_file_key(a_snapshot_id(2), "docs", "chroma.sqlite3")
    history.fakes.objects.delete([key])

    with pytest.raises(SnapshotCorruptError, match=key):
        history.roll_back(2, replay=True)

    assert history.pointer.snapshot_id == a_snapshot_id(4)
    assert history.pending == set()


def test_a_snapshot_with_a_file_of_another_size_is_refused(history: MergedHistory) -> None:
    key = layout.snapshot_file_key(a_snapshot_id(2), "docs", "chroma.sqlite3")
    history.fakes.objects.put(key, b"short")

    with pytest.raises(SnapshotCorruptError, match=key):
        history.roll_back(2)


def test_a_snapshot_that_does_not_exist_is_not_found(history: MergedHistory) -> None:
    with pytest.raises(NoSnapshotError, match="snapshots list"):
        history.roll_back(9)


def test_text_that_is_not_a_snapshot_id_is_an_invalid_request(history: MergedHistory) -> None:
    request = RollbackRequest(snapshot_id="the-one-before", operator=OPERATOR)

    with pytest.raises(InvalidRequestError, match="is not a snapshot id"):
        rollback(request, history.fakes.services)


def test_a_replay_that_cannot_find_every_delta_changes_nothing(history: MergedHistory) -> None:
    history.fakes.objects.delete([layout.compacted_key(history.merged[3])])

    with pytest.raises(ObjectMissingError, match=history.merged[3]):
        history.roll_back(2, replay=True)

    assert history.pointer.snapshot_id == a_snapshot_id(4)
    assert history.pending == set()


def test_a_delta_overwritten_in_the_archive_is_not_replayed(history: MergedHistory) -> None:
    for other in (b"something else altogether", b"DELTA 3"):
        history.fakes.objects.put(layout.compacted_key(history.merged[3]), other)

        with pytest.raises(ObjectMissingError, match=history.merged[3]):
            history.roll_back(2, replay=True)


def test_an_archived_copy_with_another_etag_is_replayed(history: MergedHistory) -> None:
    key = layout.compacted_key(history.merged[3])
    history.fakes.objects.objects[key] = history.fakes.objects.objects[key]._replace(etag='"of another key"')

    assert history.merged[3] in history.roll_back(2, replay=True).replayed


def test_the_list_of_an_older_version_without_sha256_is_compared_by_size(history: MergedHistory) -> None:
    key, listed = history.merged[3], layout.merged_deltas_key(a_snapshot_id(3))
    outcome = read_list(history.fakes.services, a_snapshot_id(3))[0].model_copy(update={"sha256": None})
    history.fakes.objects.put(listed, pack_outcomes([outcome]))
    stored = history.fakes.objects.objects[layout.compacted_key(key)]
    history.fakes.objects.objects[layout.compacted_key(key)] = stored._replace(etag='"of another key"')

    assert key in history.roll_back(2, replay=True).replayed


@pytest.mark.parametrize("dry_run", [True, False])
def test_every_delta_that_is_gone_is_named(history: MergedHistory, *, dry_run: bool) -> None:
    gone = [history.merged[3], history.merged[4]]
    history.fakes.objects.delete(layout.compacted_key(key) for key in gone)

    with pytest.raises(DeltasGoneError, match=f"^2 of .*{gone[0]}, {gone[1]}") as error:
        history.roll_back(2, replay=True, dry_run=dry_run)
    assert error.value.fields["gone"] == gone


def test_a_delta_that_is_gone_and_left_out_is_given_up_and_not_in_quarantine(history: MergedHistory) -> None:
    gone = history.merged[3]
    history.fakes.objects.delete([layout.compacted_key(gone)])

    done = history.roll_back(2, replay=True, without=(gone,))

    assert (done.given_up, done.left_out, done.replayed) == ([gone], [], [history.merged[4]])
    assert history.fakes.objects.keys("quarantine/") == set()


def test_other_content_in_quarantine_does_not_keep_the_merged_one_out(history: MergedHistory) -> None:
    history.fakes.clock.tick(60)
    history.fakes.objects.put(layout.quarantine_key(history.merged[3]), b"DELTA 3")

    done = history.roll_back(2, replay=True)

    assert (done.kept_in_quarantine, set(done.replayed)) == ([], {history.merged[3], history.merged[4]})


def test_a_replay_never_overwrites_a_delta_written_again_under_the_same_name(history: MergedHistory) -> None:
    for other in (b"something else altogether", b"DELTA 3"):
        history.fakes.objects.put(history.merged[3], other)

        with pytest.raises(InvalidRequestError, match=history.merged[3]):
            history.roll_back(2, replay=True)

        assert history.fakes.objects.get(history.merged[3]).body == other


def test_a_delta_that_was_never_archived_stays_pending_and_is_reported() -> None:
    history = MergedHistory()
    history.publish(1)
    history.publish(2, clean=False)

    done = history.roll_back(1)

    assert done.still_pending == [history.merged[2]]
    assert history.pending == {history.merged[2]}


def test_without_a_list_of_merged_deltas_a_replay_is_refused_and_a_plain_rollback_is_not(
    history: MergedHistory,
) -> None:
    history.fakes.objects.delete([layout.merged_deltas_key(a_snapshot_id(3))])
    history.fakes.clock.tick(DAYS)

    with pytest.raises(SnapshotCorruptError, match="deltas that snapshot"):
        history.roll_back(2, replay=True)
    assert history.roll_back(2).swapped


def test_with_a_damaged_list_of_merged_deltas_a_replay_is_refused(history: MergedHistory) -> None:
    history.fakes.objects.put(layout.merged_deltas_key(a_snapshot_id(3)), b"\x1f\x8b\x08no gzip")
    history.fakes.clock.tick(DAYS)

    with pytest.raises(SnapshotCorruptError, match="cannot be read"):
        history.roll_back(2, replay=True)


def test_without_a_snapshot_in_between_a_replay_is_refused_and_the_snapshot_is_named(history: MergedHistory) -> None:
    history.fakes.objects.delete([layout.manifest_key(a_snapshot_id(3))])
    history.fakes.clock.tick(DAYS)

    with pytest.raises(SnapshotCorruptError, match=a_snapshot_id(3)):
        history.roll_back(2, replay=True)


@pytest.mark.parametrize("objects", ["manifest", "everything"])
def test_within_a_day_the_archive_replaces_the_list_of_a_snapshot_that_is_gone(
    history: MergedHistory, objects: str
) -> None:
    gone = f"snapshot/{a_snapshot_id(4)}/"
    keys = history.fakes.objects.keys(gone) if objects == "everything" else {f"{gone}manifest.json"}
    history.fakes.objects.delete(keys)

    assert set(history.roll_back(2, replay=True).replayed) == {history.merged[3], history.merged[4]}


def test_a_forgotten_replay_is_done_later_though_the_undone_snapshot_is_gone(history: MergedHistory) -> None:
    history.fakes.objects.delete(history.fakes.objects.keys(f"snapshot/{a_snapshot_id(4)}/"))
    history.roll_back(3)

    assert history.roll_back(3, replay=True).replayed == [history.merged[4]]


def test_deltas_of_a_snapshot_that_an_earlier_rollback_undid_are_replayed_too(history: MergedHistory) -> None:
    history.roll_back(3)
    history.publish(6, parent=3)

    done = history.roll_back(2, replay=True)

    assert set(done.replayed) == {history.merged[3], history.merged[4], history.merged[6]}
    assert done.undone == [a_snapshot_id(6), a_snapshot_id(4), a_snapshot_id(3)]


def test_deltas_given_up_before_the_target_was_made_are_not_replayed(history: MergedHistory) -> None:
    history.roll_back(3)
    history.publish(6, parent=3)
    history.publish(7)

    assert history.roll_back(6, replay=True).replayed == [history.merged[7]]


def test_a_delta_archived_by_a_pass_that_changed_nothing_is_replayed_too(history: MergedHistory) -> None:
    late = put_delta(history.fakes, 50)
    history.fakes.objects.copy(late, layout.compacted_key(late), etag=history.fakes.objects.objects[late].etag)
    history.fakes.objects.delete([late])

    assert late in history.roll_back(2, replay=True).replayed
    assert late in history.pending


def test_a_delta_archived_before_the_target_was_made_is_not_replayed() -> None:
    history = MergedHistory()
    early = layout.compacted_key(put_delta(history.fakes, 50))
    history.fakes.objects.put(early, b"early")
    history.fakes.objects.delete([layout.pending_key(early)])
    for number in (1, 2):
        history.publish(number)

    assert history.roll_back(1, replay=True).replayed == [history.merged[2]]


def test_a_delta_left_out_goes_to_quarantine_with_a_reason(history: MergedHistory) -> None:
    excluded = history.merged[3]

    done = history.roll_back(2, replay=True, without=(layout.delta_stem(excluded),))

    assert done.left_out == [excluded]
    assert history.pending == {history.merged[4]}
    stored = history.fakes.objects.get(layout.reason_key(layout.quarantine_key(excluded)))
    assert a_snapshot_id(2) in QuarantineReason.model_validate_json(stored.body).reason


def test_a_delta_left_out_stays_out_if_the_command_runs_again_without_its_name(history: MergedHistory) -> None:
    excluded = history.merged[3]
    history.roll_back(2, replay=True, without=(excluded,))

    done = history.roll_back(2, replay=True)

    assert done.kept_in_quarantine == [excluded]
    assert history.pending == {history.merged[4]}


def test_a_requeued_and_merged_delta_is_replayed_even_if_a_crash_left_it_in_quarantine() -> None:
    history = MergedHistory()
    history.fakes.objects.put(layout.quarantine_key(layout.delta_key("docs", "000002")), b"delta 2")
    history.publish(1)
    history.publish(2)

    assert history.roll_back(1, replay=True).replayed == [history.merged[2]]


def test_leaving_out_a_delta_that_was_not_merged_is_an_invalid_request(history: MergedHistory) -> None:
    with pytest.raises(InvalidRequestError, match="--without nonsense"):
        history.roll_back(2, replay=True, without=("nonsense",))
    with pytest.raises(InvalidRequestError, match="--replay"):
        history.roll_back(2, without=(history.merged[3],))


def test_rolling_forward_again_replays_nothing(history: MergedHistory) -> None:
    history.roll_back(2)

    done = history.roll_back(4, replay=True)

    assert (done.undone, done.replayed) == ([], [])
    assert history.pointer.snapshot_id == a_snapshot_id(4)


def test_a_forgotten_replay_can_be_done_by_a_second_rollback(history: MergedHistory) -> None:
    history.roll_back(2)
    swapped = history.pointer

    done = history.roll_back(2, replay=True)

    assert not done.swapped
    assert history.pointer == swapped
    assert history.pending == {history.merged[3], history.merged[4]}


@pytest.mark.parametrize("damage", ["missing", "unreadable"])
def test_a_lost_pointer_is_replaced_and_all_newer_deltas_are_replayed(history: MergedHistory, damage: str) -> None:
    if damage == "missing":
        history.fakes.objects.delete([layout.pointer_key()])
    else:
        history.fakes.objects.put(layout.pointer_key(), b"no pointer")

    done = history.roll_back(2, replay=True)

    assert (done.previous, done.lineage_known) == (None, False)
    assert "snapshot/CURRENT" in str(done.previous_problem)
    assert history.pointer.snapshot_id == a_snapshot_id(2)
    assert history.pointer.sequence > 4
    assert history.pending == {history.merged[3], history.merged[4]}


@pytest.mark.parametrize("damage", [None, b"no manifest", b"{}"])
def test_a_rollback_from_a_damaged_manifest_replays_all_newer_deltas(
    history: MergedHistory, damage: bytes | None
) -> None:
    key = layout.manifest_key(a_snapshot_id(4))
    if damage is None:
        history.fakes.objects.delete([key])
    else:
        history.fakes.objects.put(key, damage)

    done = history.roll_back(3, replay=True)

    assert done.previous == a_snapshot_id(4)
    assert history.pending == {history.merged[4]}


def test_a_rollback_to_a_damaged_snapshot_is_refused(history: MergedHistory) -> None:
    key = layout.manifest_key(a_snapshot_id(4))
    history.fakes.objects.put(key, history.fakes.objects.get(key).body + b" ")

    with pytest.raises(SnapshotCorruptError, match="SHA-256"):
        history.roll_back(4)


def test_a_manifest_whose_proof_is_wrong_is_refused(history: MergedHistory) -> None:
    key = layout.manifest_key(a_snapshot_id(2))
    described = json.loads(history.fakes.objects.get(layout.collection_key(a_snapshot_id(2), "docs")).body)
    described["conservation"]["added"] = "f" * 32
    manifest = json.loads(history.fakes.objects.get(key).body)
    manifest |= {"format": 1, "collections": {"docs": described}}
    history.fakes.objects.put(key, json.dumps(manifest).encode())

    with pytest.raises(SnapshotCorruptError, match="conservation proof"):
        history.roll_back(2)


def test_an_upload_that_was_never_published_is_ignored() -> None:
    history = MergedHistory()
    for number in (1, 2):
        history.publish(number)
    put_snapshot(history.fakes, 3, parent=a_snapshot_id(2))
    history.fakes.objects.delete([layout.pointer_key()])

    assert history.roll_back(1, replay=True).replayed == [history.merged[2]]


def test_an_execution_that_publishes_in_between_wins(history: MergedHistory) -> None:
    def interfere(call: str, _key: str) -> None:
        if call == "put_if":
            history.fakes.objects.before = lambda _call, _key: None
            put_snapshot(history.fakes, 5, parent=a_snapshot_id(4))
            point_to(history.fakes, 5)

    history.fakes.objects.before = interfere

    with pytest.raises(SnapshotConflictError, match="nothing was rolled back"):
        history.roll_back(2, replay=True)

    assert history.pointer.snapshot_id == a_snapshot_id(5)


def test_a_swap_whose_response_is_lost_is_recognised_as_done(
    history: MergedHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)

    def lose(call: str, _key: str) -> None:
        if call == "put_if":
            raise TransientStorageError("the answer is lost")

    history.fakes.objects.after = lose

    assert history.roll_back(2, replay=True).swapped
    assert history.pointer.snapshot_id == a_snapshot_id(2)


def test_a_delta_archived_meanwhile_by_a_clean_up_without_the_lease_is_replayed_again(history: MergedHistory) -> None:
    key = history.merged[3]

    def take_away(call: str, _key: str) -> None:
        if call == "put_if":
            del history.fakes.objects.objects[key]

    history.fakes.objects.before = take_away

    history.roll_back(2, replay=True)

    assert history.pending == {history.merged[3], history.merged[4]}


def test_a_pointer_that_names_an_unknown_snapshot_is_rolled_back_with_replay(history: MergedHistory) -> None:
    point_to(history.fakes, 9)

    done = history.roll_back(4, replay=True)

    assert (done.previous, done.swapped, done.lineage_known) == (a_snapshot_id(9), True, False)
    assert history.pointer.snapshot_id == a_snapshot_id(4)


def test_the_deltas_that_an_unknown_snapshot_merged_are_replayed(history: MergedHistory) -> None:
    history.publish(5)
    objects = history.fakes.objects
    objects.delete(objects.keys(f"snapshot/{a_snapshot_id(5)}/"))

    history.roll_back(4, replay=True)

    assert history.merged[5] in history.pending


def restored(history: MergedHistory) -> str | None:
    return restored_pointer(history.pointer, history.fakes.objects.keys("snapshot/"), prefix=layout.SNAPSHOT_PREFIX)


def test_after_an_older_pointer_was_restored_a_replay_finds_the_deltas_merged_since(history: MergedHistory) -> None:
    point_to(history.fakes, 2)
    hint = restored(history)
    assert f"rollback {a_snapshot_id(2)} --replay" in str(hint)

    history.roll_back(2, replay=True)

    assert history.pending >= {history.merged[3], history.merged[4]}


def test_after_a_rollback_the_pointer_is_not_called_an_older_one(history: MergedHistory) -> None:
    assert restored(history) is None
    history.roll_back(2)

    assert restored(history) is None
