"""ListDeltas: the plan of a pass, its base, and its cost without deltas and with a huge backlog."""

import json
import tracemalloc
from collections.abc import Iterator

import pytest

from chromadb_compaction import layout
from chromadb_compaction.deltas.attempts import mark
from chromadb_compaction.errors import DeltaFailedError, LockLostError, SnapshotCorruptError, TransientStorageError
from chromadb_compaction.messages import (
    BATCH_MANIFEST,
    AcquireLockRequest,
    DeltaListing,
    ListDeltasRequest,
    ReleaseLockRequest,
)
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import DeltaNotification
from chromadb_compaction.steps.acquire_lock import acquire_lock
from chromadb_compaction.steps.list_deltas import list_deltas
from chromadb_compaction.steps.release_lock import release_lock
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.published import outcome_of, point_to, publish, put_delta, put_quarantined, put_snapshot
from tests.fakes.services import EXECUTION, Fakes, new_fakes

STATE_LIMIT = 256 * 1024
MEBIBYTE = 1024 * 1024


def list_pass(fakes: Fakes, previous_pass: int = 0) -> DeltaListing:
    fakes.hold_lease()
    return list_deltas(ListDeltasRequest(execution=EXECUTION, previous_pass=previous_pass), fakes.services)


def listed(fakes: Fakes, listing: DeltaListing) -> list[ObjectInfo]:
    manifests = [BATCH_MANIFEST.validate_json(fakes.objects.get(batch.key).body) for batch in listing.batches]
    return [delta for manifest in manifests for delta in manifest]


def test_the_first_pass_starts_without_a_base_and_takes_the_pending_deltas() -> None:
    fakes = new_fakes()
    keys = [put_delta(fakes, n) for n in range(3)]
    fakes.clock.tick(60)

    listing = list_pass(fakes)

    assert listing.model_dump(by_alias=True) == {
        "pass": 1,
        "batches": [
            {"key": "work/first/1/batches/0000.json", "collection": "docs", "collections": 1, "deltas": 3, "bytes": 21}
        ],
        "deltas": 3,
        "more": False,
        "base": {"snapshot_id": None, "etag": None, "sequence": 0},
        "pending": 3,
        "oldest_seconds": 60.0,
        "finished_clean_up_of": None,
        "queue_error": None,
        "set_aside": 0,
        "large_passes": 0,
        "deferred": 0,
        "deferred_until": None,
    }
    assert [delta.key for delta in listed(fakes, listing)] == keys


def test_the_pass_starts_from_the_published_snapshot() -> None:
    fakes = new_fakes()
    snapshot_id = put_snapshot(fakes, 4)
    point_to(fakes, 4, swap=6)
    fakes.objects.put(layout.cleaned_key(snapshot_id), b"{}")

    base = list_pass(fakes).base

    assert (base.snapshot_id, base.sequence) == (snapshot_id, 6)
    assert base.etag == fakes.objects.objects["snapshot/CURRENT"].etag


def test_an_idle_execution_makes_at_most_eight_calls() -> None:
    fakes = new_fakes()
    snapshot_id = publish(fakes, 1, [])
    fakes.objects.put(layout.cleaned_key(snapshot_id), b"{}")
    fakes.objects.calls.clear()

    acquire_lock(AcquireLockRequest(execution=EXECUTION), fakes.services)
    listing = list_deltas(ListDeltasRequest(execution=EXECUTION, previous_pass=0), fakes.services)
    release_lock(ReleaseLockRequest(execution=EXECUTION), fakes.services)

    assert listing.deltas == 0
    assert listing.oldest_seconds is None
    assert fakes.calls <= 8


def test_an_object_that_is_not_a_delta_is_listed_so_that_it_is_quarantined() -> None:
    fakes = new_fakes()
    fakes.objects.put("delta/notes.txt", b"hello")
    fakes.objects.put("delta/docs/", b"")

    listing = list_pass(fakes)

    assert [delta.key for delta in listed(fakes, listing)] == ["delta/notes.txt"]
    assert listing.pending == 1


def test_a_pass_has_the_number_after_the_previous_one() -> None:
    fakes = new_fakes()
    put_delta(fakes, 1)

    listing = list_pass(fakes, previous_pass=4)

    assert listing.pass_number == 5
    assert listing.batches[0].key == "work/first/5/batches/0000.json"


def test_the_last_pass_of_an_execution_does_not_report_more() -> None:
    fakes = new_fakes(max_passes=3, compaction_batch_size=1, max_batches_per_pass=1)
    put_delta(fakes, 1)
    put_delta(fakes, 2)

    assert [list_pass(fakes, previous_pass=n).more for n in range(3)] == [True, True, False]


def test_running_twice_gives_the_same_listing() -> None:
    fakes = new_fakes()
    for n in range(5):
        put_delta(fakes, n)

    assert list_pass(fakes) == list_pass(fakes)


def test_without_the_lease_nothing_is_listed() -> None:
    fakes = new_fakes()

    with pytest.raises(LockLostError):
        list_deltas(ListDeltasRequest(execution=EXECUTION, previous_pass=0), fakes.services)

    assert fakes.objects.calls == []


def test_an_unreadable_pointer_stops_the_pass_and_is_named() -> None:
    fakes = new_fakes()
    fakes.objects.put("snapshot/CURRENT", b"garbage")

    with pytest.raises(SnapshotCorruptError, match="snapshot/CURRENT"):
        list_pass(fakes)


def test_a_lost_pointer_stops_the_pass_and_the_newest_published_snapshot_is_named() -> None:
    fakes = new_fakes()
    for number in (1, 2, 3):
        fakes.objects.put(layout.cleaned_key(put_snapshot(fakes, number)), b"{}")

    with pytest.raises(SnapshotCorruptError, match="rollback 0000000003-00000003 --replay"):
        list_pass(fakes)


def upload_without_swap(fakes: Fakes) -> str:
    """Write all objects of a first snapshot but the pointer, and return the key of the delta that it merged."""
    key = put_delta(fakes, 1)
    publish(fakes, 1, [outcome_of(fakes, key)])
    fakes.objects.delete([layout.pointer_key()])
    return key


def test_a_first_upload_that_was_given_up_before_the_swap_does_not_stop_the_pass() -> None:
    fakes = new_fakes()
    upload_without_swap(fakes)

    assert list_pass(fakes).base.snapshot_id is None


@pytest.mark.parametrize("now", [None, b"DELTA 1", b"another delta"])
def test_a_lost_pointer_is_noticed_even_before_the_first_clean_up_is_finished(now: bytes | None) -> None:
    fakes = new_fakes()
    key = upload_without_swap(fakes)
    if now is None:
        fakes.objects.delete([key])
    else:
        fakes.objects.put(key, now)

    with pytest.raises(SnapshotCorruptError, match="rollback 0000000001-00000001 --replay"):
        list_pass(fakes)


def test_a_lost_pointer_is_noticed_without_the_list_of_merged_deltas() -> None:
    fakes = new_fakes()
    upload_without_swap(fakes)
    fakes.objects.delete([layout.merged_deltas_key("0000000001-00000001")])

    with pytest.raises(SnapshotCorruptError, match="has been published"):
        list_pass(fakes)


class LongListing(InMemoryObjectStore):
    """A bucket with `pending` deltas in three collections that exist only in the listing, as a stream."""

    pending = 0

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the deltas, and what is stored under any other prefix."""
        if prefix != layout.DELTA_PREFIX:
            yield from super().list(prefix, start_after=start_after)
            return
        for number in range(self.pending):
            name = f"a-collection-with-a-name-of-some-length-{3 * number // self.pending}"
            key = layout.delta_key(name, f"01890a5d-ac96-774b-bcce-{number:012d}")
            yield ObjectInfo(key=key, bytes=1, etag=f"e{number}", modified=float(number % 1009))


@pytest.mark.parametrize("deltas", [10_000, 100_000])
def test_a_huge_backlog_needs_the_memory_and_the_state_of_one_pass(deltas: int) -> None:
    fakes = new_fakes()
    fakes.objects = LongListing(fakes.clock)
    fakes.objects.pending = deltas

    tracemalloc.start()
    listing = list_pass(fakes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert listing.pending == deltas
    assert listing.more
    assert len(listing.batches) == 40
    assert len(json.dumps(listing.model_dump(mode="json"))) < STATE_LIMIT / 10
    assert peak < 16 * MEBIBYTE


def test_an_unfinished_clean_up_is_finished_before_the_listing() -> None:
    fakes = new_fakes()
    merged, pending = put_delta(fakes, 1), put_delta(fakes, 2)
    snapshot_id = publish(fakes, 1, [outcome_of(fakes, merged), put_quarantined(fakes, 3)])

    listing = list_pass(fakes)

    assert listing.finished_clean_up_of == snapshot_id
    assert [delta.key for delta in listed(fakes, listing)] == [pending]
    assert layout.compacted_key(merged) in fakes.objects.objects
    assert layout.cleaned_key(snapshot_id) in fakes.objects.objects


@pytest.mark.parametrize("failing", ["receive", "delete", "dead_letter"])
def test_an_outage_of_the_queues_does_not_stop_an_unfinished_clean_up(failing: str) -> None:
    fakes = new_fakes()
    merged, pending = put_delta(fakes, 1), put_delta(fakes, 2)
    fakes.queue.notify([DeltaNotification(merged, 1, 1)])
    quarantined = put_quarantined(fakes, 3)
    snapshot_id = publish(fakes, 1, [outcome_of(fakes, merged), quarantined])
    calls = []

    def fail(call: str) -> None:
        calls.append(call)
        if call == failing:
            raise TransientStorageError("the queue answers 503")

    fakes.queue.before = fail

    listing = list_pass(fakes)

    assert listing.finished_clean_up_of == snapshot_id
    assert listing.queue_error == "the queue answers 503"
    # What could not be reported as quarantined stays pending for that.
    unreported = {quarantined.key} if failing == "dead_letter" else set()
    assert fakes.objects.keys("delta/") == {pending} | unreported
    assert calls[-1] == failing


def test_a_finished_clean_up_is_not_repeated() -> None:
    fakes = new_fakes()
    publish(fakes, 1, [outcome_of(fakes, put_delta(fakes, 1))])
    list_pass(fakes)
    fakes.objects.calls.clear()

    assert list_pass(fakes).finished_clean_up_of is None
    assert {call for call, _ in fakes.objects.calls} == {"get", "head", "list"}


def test_a_clean_up_without_its_list_does_not_stop_the_pass() -> None:
    fakes = new_fakes()
    key = put_delta(fakes, 1)
    snapshot_id = publish(fakes, 1, [outcome_of(fakes, key)])
    fakes.objects.delete([layout.merged_deltas_key(snapshot_id)])

    listing = list_pass(fakes)

    assert (listing.finished_clean_up_of, listing.deltas) == (None, 1)


def test_a_transient_error_of_the_clean_up_fails_the_pass_for_a_retry() -> None:
    fakes = new_fakes()
    publish(fakes, 1, [outcome_of(fakes, put_delta(fakes, 1))])

    def fail_copies(call: str, key: str) -> None:
        if call == "copy":
            raise TransientStorageError(key)

    fakes.objects.before = fail_copies

    with pytest.raises(TransientStorageError):
        list_pass(fakes)


def test_an_execution_that_finds_nothing_deletes_the_notifications_that_are_left() -> None:
    fakes = new_fakes()
    publish(fakes, 1, [outcome_of(fakes, put_delta(fakes, 1))])
    list_pass(fakes)
    fakes.queue.notify([DeltaNotification(f"delta/docs/{n}-gone.parquet", 1, 1) for n in range(1500)])

    assert list_pass(fakes).deltas == 0
    assert fakes.queue.messages == {}


def test_a_pass_with_deltas_leaves_the_notifications_to_its_clean_up() -> None:
    fakes = new_fakes()
    put_delta(fakes, 1)
    fakes.queue.notify([DeltaNotification("delta/docs/gone.parquet", 1, 1)])

    list_pass(fakes)

    assert len(fakes.queue.messages) == 1


@pytest.mark.parametrize(("age", "left"), [(3601, 0), (3599, 1)])
def test_the_notification_of_a_delta_that_is_set_aside_is_answered_after_an_hour(age: float, left: int) -> None:
    fakes = new_fakes(max_delta_failures=1)
    key = put_delta(fakes, 1)
    found = fakes.objects.head(key)
    assert found
    mark(found, DeltaFailedError("KeyError"), "arn:one", fakes.objects)
    fakes.queue.notify([DeltaNotification(key, 1, 1)])
    fakes.clock.tick(age)

    assert list_pass(fakes).set_aside == 1
    assert len(fakes.queue.messages) == left
    assert key in fakes.objects.objects


def test_an_outage_of_the_queue_does_not_fail_an_execution_that_finds_nothing() -> None:
    fakes = new_fakes()

    def fail(_call: str) -> None:
        raise TransientStorageError("the queue answers 503")

    fakes.queue.before = fail

    assert list_pass(fakes).queue_error == "the queue answers 503"
