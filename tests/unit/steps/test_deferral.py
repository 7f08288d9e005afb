"""Collections that wait: ListDeltas leaves them out, and their notifications do not start compactions."""

from __future__ import annotations

from itertools import chain

from chromadb_compaction import layout
from chromadb_compaction.messages import CleanUpRequest, DeltaListing, ListDeltasRequest
from chromadb_compaction.metrics import Measure, metrics_of
from chromadb_compaction.ports import DeltaNotification
from chromadb_compaction.steps.clean_up import clean_up
from chromadb_compaction.steps.list_deltas import list_deltas
from tests.builders import a_delta
from tests.fakes.published import outcome_of, publish
from tests.fakes.services import EXECUTION, Fakes, new_fakes

HOUR = 3600


def put(fakes: Fakes, rows: int, *, collection: str = "docs") -> str:
    """Write a delta with so many rows, notify the queue, and return its key."""
    delta = a_delta({f"id-{n}": [1.0, 2.0] for n in range(rows)}, collection=collection, at=fakes.clock())
    delta.put_into(fakes.objects)
    fakes.queue.notify([DeltaNotification(delta.key, rows, len(delta.body))])
    return delta.key


def list_pass(fakes: Fakes, **request: object) -> DeltaListing:
    fakes.hold_lease()
    message = {"execution": EXECUTION, "previous_pass": 0} | request
    return list_deltas(ListDeltasRequest.model_validate(message), fakes.services)


def waiting_fakes(**settings: object) -> Fakes:
    return new_fakes(compaction_min_rows=100, compaction_max_age_minutes=60, **settings)


def test_a_collection_waits_for_rows_and_then_all_of_it_is_merged() -> None:
    fakes = waiting_fakes()
    put(fakes, 60)
    first = list_pass(fakes)
    put(fakes, 40)

    second = list_pass(fakes)

    assert (first.deltas, first.pending, first.deferred, first.more) == (0, 1, 1, False)
    assert first.deferred_until == fakes.clock() + HOUR
    assert (second.deltas, second.pending, second.deferred, second.deferred_until) == (2, 2, 0, None)


def test_a_collection_waits_no_longer_than_its_age() -> None:
    fakes = waiting_fakes()
    put(fakes, 1)
    fakes.clock.tick(HOUR - 1)
    before = list_pass(fakes)
    fakes.clock.tick(1)

    assert (before.deltas, before.oldest_seconds) == (0, HOUR - 1)
    assert list_pass(fakes).deltas == 1


def test_a_collection_that_waits_does_not_keep_another_waiting_and_no_pass_follows_for_it() -> None:
    fakes = waiting_fakes()
    put(fakes, 1)
    put(fakes, 100, collection="texts")

    listing = list_pass(fakes)

    assert [batch.collection for batch in listing.batches] == ["texts"]
    assert (listing.deferred, listing.more) == (1, False)


def test_half_of_a_bound_of_fresh_reads_is_enough() -> None:
    for bound in ({"pending_rows": 20}, {"pending_deltas": 2}, {"pending_bytes": 2000}):
        fakes = waiting_fakes(**bound)
        put(fakes, 10)

        assert list_pass(fakes).deltas == 1, bound


def test_the_input_all_merges_what_waits() -> None:
    fakes = waiting_fakes()
    put(fakes, 1)

    assert list_pass(fakes, execution_input={"all": True}).deltas == 1
    others: list[object] = [None, {}, {"all": "true"}, [], "all", {"all": False, "more": 1}]
    for other in others:
        assert list_pass(fakes, execution_input=other).deltas == 0


def test_an_execution_in_which_everything_waits_is_a_success() -> None:
    fakes = waiting_fakes()
    put(fakes, 1)

    points = {point.measure: point.value for point in metrics_of(list_pass(fakes))}

    assert points[Measure.COMPACTION_SUCCEEDED] == 1
    assert points[Measure.PENDING_DELTAS] == 1


def test_the_notifications_of_deltas_that_wait_are_deleted_when_nothing_is_due() -> None:
    fakes = waiting_fakes()
    put(fakes, 1)

    list_pass(fakes)

    assert fakes.queue.depth() == (0, 0)


def test_clean_up_deletes_the_notifications_of_deltas_that_wait_but_not_of_later_ones() -> None:
    fakes = waiting_fakes()
    merged = put(fakes, 100, collection="texts")
    put(fakes, 1)
    list_pass(fakes)
    fakes.clock.tick(1)
    later = put(fakes, 1)
    snapshot_id = publish(fakes, 1, [outcome_of(fakes, merged)])

    outcome = layout.merged_deltas_key(snapshot_id)
    request = CleanUpRequest(execution=EXECUTION, pass_number=1, snapshot_id=snapshot_id, outcome=outcome)
    cleaned = clean_up(request, fakes.services)
    fakes.queue.make_visible_again()

    assert cleaned.messages_deleted == 2
    assert [each.key for each in chain.from_iterable(fakes.queue.receive(10))] == [later]


def test_without_minimums_nothing_is_read_or_written_for_deferral() -> None:
    fakes = new_fakes()
    key = put(fakes, 1)
    fakes.objects.calls.clear()

    list_pass(fakes)

    assert all(each != key for _, each in fakes.objects.calls)
    assert ("put", layout.deferred_key(EXECUTION, 1)) not in fakes.objects.calls
