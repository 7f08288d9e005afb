"""CleanUp: a delta leaves delta/ only while its snapshot is published, unchanged, and after it was copied."""

import json
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromadb_compaction import layout
from chromadb_compaction.deltas.outcomes import DeltaOutcome, pack_outcomes
from chromadb_compaction.deltas.quarantine import read_reason
from chromadb_compaction.errors import (
    CompactionError,
    ConfigurationError,
    TransientStorageError,
    UnreadableObjectError,
)
from chromadb_compaction.messages import CleanedUp, CleanUpRequest
from chromadb_compaction.ports import DeltaNotification, ReceivedNotification
from chromadb_compaction.steps.clean_up import clean_up
from tests.fakes.published import a_snapshot_id, outcome_of, point_to, publish, put_delta, put_quarantined, put_snapshot
from tests.fakes.services import EXECUTION, Fakes, new_fakes

MERGED = 3


def run(fakes: Fakes, snapshot_id: str | None, outcome: str | None = None) -> CleanedUp:
    fakes.hold_lease()
    outcome = outcome or layout.merged_deltas_key(snapshot_id or "")
    return clean_up(
        CleanUpRequest(execution=EXECUTION, pass_number=1, snapshot_id=snapshot_id, outcome=outcome), fakes.services
    )


def merge(fakes: Fakes, count: int = MERGED) -> list[DeltaOutcome]:
    return [outcome_of(fakes, put_delta(fakes, n)) for n in range(count)]


def notify(fakes: Fakes, *keys: str) -> None:
    fakes.queue.notify([DeltaNotification(key, 1, 1) for key in keys])


class TestArchiving:
    def test_merged_deltas_move_to_compacted_byte_for_byte(self) -> None:
        fakes = new_fakes()
        outcomes = merge(fakes)
        bodies = {o.key: fakes.objects.objects[o.key].body for o in outcomes}

        cleaned = run(fakes, publish(fakes, 1, outcomes))

        assert cleaned.archived == MERGED
        assert fakes.objects.keys("delta/") == set()
        assert {
            layout.pending_key(key): fakes.objects.objects[key].body for key in fakes.objects.keys("compacted/")
        } == bodies

    def test_deltas_that_the_pass_did_not_merge_stay_pending(self) -> None:
        fakes = new_fakes()
        outcomes = merge(fakes)
        late = put_delta(fakes, 50)
        missing = outcome_of(fakes, put_delta(fakes, 51), "missing")

        run(fakes, publish(fakes, 1, [*outcomes, missing]))

        assert fakes.objects.keys("delta/") == {late, missing.key}

    def test_a_second_run_returns_the_first_result_and_changes_nothing(self) -> None:
        fakes = new_fakes()
        snapshot_id = publish(fakes, 1, [*merge(fakes), put_quarantined(fakes, 99)])
        first = run(fakes, snapshot_id)
        before = dict(fakes.objects.objects)

        assert run(fakes, snapshot_id) == first
        assert fakes.objects.objects == before
        assert len(fakes.queue.dead_letters) == 1

    def test_a_delta_that_was_already_moved_counts_as_archived(self) -> None:
        fakes = new_fakes()
        outcomes = merge(fakes)
        snapshot_id = publish(fakes, 1, outcomes)
        key = outcomes[0].key
        fakes.objects.copy(key, layout.compacted_key(key), etag=outcomes[0].etag)
        fakes.objects.delete([key])

        assert run(fakes, snapshot_id).archived == MERGED

    def test_a_delta_that_is_gone_without_a_copy_is_not_counted_and_does_not_stop_the_others(self) -> None:
        fakes = new_fakes()
        outcomes = merge(fakes)
        snapshot_id = publish(fakes, 1, outcomes)
        fakes.objects.delete([outcomes[0].key])

        assert run(fakes, snapshot_id).archived == MERGED - 1
        assert layout.cleaned_key(snapshot_id) in fakes.objects.objects

    @pytest.mark.parametrize("other", [b"other content", b"DELTA 1"])
    def test_a_delta_rewritten_before_the_copy_goes_to_quarantine(self, other: bytes) -> None:
        fakes = new_fakes()
        outcomes = merge(fakes)
        snapshot_id = publish(fakes, 1, outcomes)
        key = outcomes[1].key
        fakes.objects.put(key, other)

        done = run(fakes, snapshot_id)

        assert (done.archived, done.quarantined) == (MERGED - 1, 1)
        assert fakes.objects.keys("delta/") == set()
        assert fakes.objects.objects[layout.quarantine_key(key)].body == other
        assert "under a new UUIDv7" in read_reason(layout.quarantine_key(key), fakes.services).reason
        assert [json.loads(message)["key"] for message in fakes.queue.dead_letters] == [key]

    def test_a_delta_uploaded_again_with_the_same_content_is_archived(self) -> None:
        fakes = new_fakes()
        outcomes = [each.model_copy(update={"etag": '"of another key"'}) for each in merge(fakes)]
        snapshot_id = publish(fakes, 1, outcomes)

        assert run(fakes, snapshot_id).archived == MERGED
        assert fakes.objects.keys("delta/") == set()

    def test_a_delta_rewritten_once_more_stays_pending_and_the_clean_up_is_not_finished(self) -> None:
        fakes = new_fakes()
        outcomes = merge(fakes)
        snapshot_id = publish(fakes, 1, outcomes)
        key = outcomes[1].key
        fakes.objects.put(key, b"other content")
        fakes.objects.run_before_next("delete_if", lambda _key: fakes.objects.put(key, b"a third content"))

        with pytest.raises(TransientStorageError, match=key):
            run(fakes, snapshot_id)
        assert layout.cleaned_key(snapshot_id) not in fakes.objects.objects
        assert run(fakes, snapshot_id).quarantined == 1
        assert fakes.objects.objects[layout.quarantine_key(key)].body == b"a third content"

    def test_a_delta_rewritten_between_copy_and_delete_stays_pending(self) -> None:
        fakes = new_fakes()
        outcomes = merge(fakes)
        snapshot_id = publish(fakes, 1, outcomes)
        fakes.objects.run_before_next("delete_if", lambda _key: fakes.objects.put(outcomes[1].key, b"other content"))

        assert run(fakes, snapshot_id).archived == MERGED - 1
        assert fakes.objects.objects[outcomes[1].key].body == b"other content"

    def test_four_thousand_deltas_are_moved_with_one_copy_each(self) -> None:
        fakes = new_fakes()
        snapshot_id = publish(fakes, 1, merge(fakes, 4000))
        fakes.objects.calls.clear()

        assert run(fakes, snapshot_id).archived == 4000
        assert sum(call == "copy" for call, _ in fakes.objects.calls) == 4000
        assert sum(call in {"get", "head", "list"} for call, _ in fakes.objects.calls) < 10

    def test_the_snapshot_is_marked_as_cleaned(self) -> None:
        fakes = new_fakes()
        snapshot_id = publish(fakes, 1, merge(fakes))

        run(fakes, snapshot_id)

        assert json.loads(fakes.objects.objects[layout.cleaned_key(snapshot_id)].body) == {
            "format": 1,
            "cleaned_at": fakes.clock(),
            "archived": MERGED,
            "quarantined": 0,
            "messages_deleted": 0,
        }


class TestPassesThatPublishedNothing:
    def test_deltas_that_changed_nothing_are_archived_under_the_published_snapshot(self) -> None:
        fakes = new_fakes()
        snapshot_id = publish(fakes, 1, [])
        outcome = layout.outcome_key(EXECUTION, 1)
        fakes.objects.put(outcome, pack_outcomes(merge(fakes)))

        assert run(fakes, snapshot_id, outcome).archived == MERGED
        assert layout.cleaned_key(snapshot_id) not in fakes.objects.objects

    def test_empty_and_quarantined_deltas_are_archived_before_the_first_snapshot(self) -> None:
        fakes = new_fakes()
        outcome = layout.outcome_key(EXECUTION, 1)
        fakes.objects.put(outcome, pack_outcomes([*merge(fakes), put_quarantined(fakes, 99)]))

        cleaned = run(fakes, None, outcome)

        assert (cleaned.archived, cleaned.quarantined, cleaned.skipped) == (MERGED, 1, None)
        assert fakes.objects.keys("delta/") == set()


class TestAnotherSnapshotPublished:
    def test_deltas_of_a_rolled_back_snapshot_stay_pending(self) -> None:
        fakes = new_fakes()
        put_snapshot(fakes, 1)
        outcomes = merge(fakes)
        snapshot_id = publish(fakes, 2, outcomes)
        point_to(fakes, 1, swap=3)

        cleaned = run(fakes, snapshot_id)

        assert cleaned.skipped == "another snapshot has been published since; nothing was moved"
        assert fakes.objects.keys("compacted/") == set()
        assert fakes.objects.keys("delta/") == {o.key for o in outcomes}

    def test_deltas_of_a_snapshot_rolled_back_during_the_copies_stay_pending(self) -> None:
        fakes = new_fakes()
        put_snapshot(fakes, 1)
        outcomes = [*merge(fakes), put_quarantined(fakes, 99)]
        snapshot_id = publish(fakes, 2, outcomes)
        fakes.objects.run_before_next("copy", lambda _key: point_to(fakes, 1, swap=3))

        cleaned = run(fakes, snapshot_id)

        assert cleaned.skipped
        assert fakes.objects.keys("delta/") == {o.key for o in outcomes}
        assert layout.cleaned_key(snapshot_id) not in fakes.objects.objects
        assert fakes.queue.dead_letters == []

    def test_deltas_of_a_replaced_snapshot_stay_pending(self) -> None:
        fakes = new_fakes()
        outcomes = merge(fakes)
        snapshot_id = publish(fakes, 1, outcomes)
        publish(fakes, 2, [])

        assert run(fakes, snapshot_id).skipped
        assert fakes.objects.keys("delta/") == {o.key for o in outcomes}

    def test_a_snapshot_without_a_pointer_is_not_published(self) -> None:
        fakes = new_fakes()
        snapshot_id = publish(fakes, 1, merge(fakes))
        fakes.objects.delete(["snapshot/CURRENT"])

        assert run(fakes, snapshot_id).skipped


class TestQuarantine:
    def test_a_quarantined_delta_leaves_delta_and_its_reason_is_dead_lettered(self) -> None:
        fakes = new_fakes()
        quarantined = put_quarantined(fakes, 99)

        cleaned = run(fakes, publish(fakes, 1, [quarantined]))

        assert cleaned.quarantined == 1
        assert fakes.objects.keys("delta/") == set()
        assert [json.loads(message) for message in fakes.queue.dead_letters] == [
            {"format": 1, "key": quarantined.key, "reason": "row 7 holds NaN"}
        ]

    @pytest.mark.parametrize("copy", [None, b"cut"])
    def test_a_quarantined_delta_without_a_complete_copy_stays_pending(self, copy: bytes | None) -> None:
        fakes = new_fakes()
        quarantined = put_quarantined(fakes, 99)
        key = layout.quarantine_key(quarantined.key)
        fakes.objects.delete([key])
        if copy is not None:
            fakes.objects.put(key, copy)

        cleaned = run(fakes, publish(fakes, 1, [quarantined]))

        assert cleaned.quarantined == 0
        assert fakes.objects.keys("delta/") == {quarantined.key}
        assert fakes.queue.dead_letters == []

    def test_a_quarantined_delta_that_was_rewritten_stays_pending(self) -> None:
        fakes = new_fakes()
        quarantined = put_quarantined(fakes, 99)
        snapshot_id = publish(fakes, 1, [quarantined])
        fakes.objects.put(quarantined.key, b"fixed")

        assert run(fakes, snapshot_id).quarantined == 0
        assert fakes.objects.objects[quarantined.key].body == b"fixed"


class TestNotifications:
    def test_notifications_of_moved_deltas_are_deleted(self) -> None:
        fakes = new_fakes()
        outcomes = [*merge(fakes), put_quarantined(fakes, 99)]
        notify(fakes, *(o.key for o in outcomes), outcomes[0].key)

        assert run(fakes, publish(fakes, 1, outcomes)).messages_deleted == 5
        assert fakes.queue.messages == {}

    def test_a_late_notification_is_deleted_if_its_delta_is_gone(self) -> None:
        fakes = new_fakes()
        notify(fakes, "delta/docs/merged-an-hour-ago.parquet")

        assert run(fakes, publish(fakes, 1, merge(fakes))).messages_deleted == 1

    def test_the_notification_of_a_pending_delta_stays(self) -> None:
        fakes = new_fakes()
        notify(fakes, put_delta(fakes, 50))

        assert run(fakes, publish(fakes, 1, merge(fakes))).messages_deleted == 0
        assert len(fakes.queue.messages) == 1

    @pytest.mark.parametrize(("others", "polls"), [(0, 0), (2, 0), (25, 1)])
    def test_the_queue_is_polled_again_only_if_it_still_has_messages(
        self, others: int, polls: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fakes = new_fakes()
        outcomes = merge(fakes)
        notify(fakes, *(o.key for o in outcomes), *(f"delta/docs/{n}-gone.parquet" for n in range(others)))
        receive = fakes.queue.receive
        ended: list[int] = []

        def noting_the_end(limit: int) -> Iterator[Sequence[ReceivedNotification]]:
            yield from receive(limit)
            ended.append(limit)

        monkeypatch.setattr(fakes.queue, "receive", noting_the_end)

        assert run(fakes, publish(fakes, 1, outcomes)).messages_deleted == MERGED + others
        assert fakes.queue.messages == {}
        assert len(ended) == polls

    @pytest.mark.parametrize("body", ["hello", '{"format": 1, "key": "elsewhere/x.parquet", "rows": 1, "bytes": 1}'])
    def test_a_message_that_is_not_a_notification_is_dead_lettered(self, body: str) -> None:
        fakes = new_fakes()
        fakes.queue.send(body)

        assert run(fakes, publish(fakes, 1, merge(fakes))).messages_deleted == 1
        (message,) = (json.loads(message) for message in fakes.queue.dead_letters)
        assert (message["key"], message["body"]) == (None, body)
        assert fakes.queue.messages == {}

    def test_one_clean_up_deletes_a_bounded_number_of_messages(self) -> None:
        fakes = new_fakes()
        notify(fakes, *(f"delta/docs/{n}-gone.parquet" for n in range(1500)))

        first = run(fakes, publish(fakes, 1, merge(fakes)))

        assert first.messages_deleted == 1000 + MERGED


class TestUnreadableObjects:
    def test_a_merged_delta_that_was_archived_since_stays_pending_and_stops_nothing(self) -> None:
        fakes = new_fakes()
        outcomes = merge(fakes)
        fakes.objects.unreadable.add(outcomes[0].key)

        assert run(fakes, publish(fakes, 1, outcomes)).archived == MERGED - 1
        assert fakes.objects.keys("delta/") == {outcomes[0].key}


class TestQueuesThatFail:
    @pytest.mark.parametrize("failing", ["receive", "delete", "dead_letter"])
    def test_a_queue_that_is_gone_or_refuses_stops_nothing_and_is_reported(self, failing: str) -> None:
        fakes = new_fakes()
        outcomes = [*merge(fakes), put_quarantined(fakes, 99)]
        notify(fakes, *(o.key for o in outcomes))
        fakes.queue.send("foreign")
        fakes.queue.before = failing_with(failing, ConfigurationError("the queue does not exist"))
        snapshot_id = publish(fakes, 1, outcomes)

        cleaned = run(fakes, snapshot_id)

        assert (cleaned.archived, cleaned.quarantined) == (MERGED, 1)
        assert cleaned.queue_error == "the queue does not exist"
        assert fakes.objects.keys("delta/") == set()
        assert fakes.objects.keys(layout.cleaned_key(snapshot_id))

    def test_a_foreign_message_stays_while_the_dead_letter_queue_fails(self) -> None:
        fakes = new_fakes()
        fakes.queue.send("foreign")
        fakes.queue.before = failing_with("dead_letter", CompactionError("OverLimit"))

        run(fakes, publish(fakes, 1, merge(fakes)))

        assert list(fakes.queue.messages.values()) == ["foreign"]

    def test_a_temporary_failure_is_raised_so_that_a_retry_sends_what_is_missing(self) -> None:
        fakes = new_fakes()
        fakes.queue.before = failing_with("dead_letter", TransientStorageError("throttled"))
        snapshot_id = publish(fakes, 1, [put_quarantined(fakes, 99)])

        with pytest.raises(TransientStorageError):
            run(fakes, snapshot_id)

        assert not fakes.objects.keys(layout.cleaned_key(snapshot_id))

    def test_the_notification_of_an_unreadable_delta_stays(self) -> None:
        fakes = new_fakes()
        key = put_delta(fakes, 50)
        notify(fakes, key)

        def refuse(call: str, asked: str) -> None:
            if (call, asked) == ("head", key):
                raise UnreadableObjectError("encrypted", key=key)

        fakes.objects.before = refuse

        assert run(fakes, publish(fakes, 1, merge(fakes))).messages_deleted == 0


def failing_with(failing: str, error: CompactionError) -> Callable[[str], None]:
    def fail(call: str) -> None:
        if call == failing:
            raise error

    return fail


class TestCrashes:
    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_nothing_is_lost_whichever_call_fails_and_a_retry_finishes(self, data: st.DataObject) -> None:
        fakes = new_fakes()
        outcomes = [*merge(fakes), put_quarantined(fakes, 99)]
        bodies = {o.key: fakes.objects.objects[o.key].body for o in outcomes}
        notify(fakes, *bodies)
        snapshot_id = publish(fakes, 1, outcomes)
        fakes.objects.calls.clear()
        left = data.draw(st.integers(0, 25))
        lost = data.draw(st.booleans())

        def fail(_call: str, _key: str = "") -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise TransientStorageError("forced")

        for fake in (fakes.objects, fakes.queue):
            setattr(fake, "after" if lost else "before", fail)
        try:
            run(fakes, snapshot_id)
        except TransientStorageError:
            self.assert_every_delta_is_stored(fakes, bodies)
        left = 10**9
        fakes.queue.make_visible_again()

        cleaned = run(fakes, snapshot_id)

        assert (cleaned.archived, cleaned.quarantined) == (MERGED, 1)
        assert fakes.objects.keys("delta/") == set()
        assert fakes.queue.messages == {}
        assert {json.loads(message)["key"] for message in fakes.queue.dead_letters} == {outcomes[-1].key}
        self.assert_every_delta_is_stored(fakes, bodies)

    def assert_every_delta_is_stored(self, fakes: Fakes, bodies: dict[str, bytes]) -> None:
        for key, body in bodies.items():
            places = (key, layout.compacted_key(key), layout.quarantine_key(key))
            assert body in {fakes.objects.objects[place].body for place in places if place in fakes.objects.objects}


class TestPruningAfterwards:
    def test_snapshots_past_their_retention_are_pruned(self) -> None:
        fakes = new_fakes(snapshot_retention_count=1)
        put_snapshot(fakes, 1)
        fakes.clock.tick(3 * 86_400)
        snapshot_id = publish(fakes, 2, merge(fakes))

        cleaned = run(fakes, snapshot_id)

        assert (cleaned.snapshots_pruned, cleaned.objects_pruned) == (1, 3)
        assert fakes.objects.keys(f"snapshot/{a_snapshot_id(1)}") == set()
