"""What was merged leaves delta/ only while it is published, only as it was merged, and never without a copy."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromadb_compaction import layout
from chromadb_compaction.deltas.outcomes import DeltaOutcome, pack_outcomes
from chromadb_compaction.errors import TransientStorageError
from chromadb_compaction.messages import CleanedUp, CleanUpRequest
from chromadb_compaction.ports import DeltaNotice
from chromadb_compaction.steps.clean_up import clean_up
from tests.fakes.cloud import EXECUTION, Cloud, a_cloud
from tests.fakes.published import a_snapshot_id, outcome_of, point_to, publish, put_delta, put_snapshot

MERGED = 3


def run(cloud: Cloud, snapshot_id: str | None, outcome: str | None = None) -> CleanedUp:
    cloud.hold_lease()
    outcome = outcome or layout.merged_deltas_key(snapshot_id or "")
    return clean_up(
        CleanUpRequest(execution=EXECUTION, pass_number=1, snapshot_id=snapshot_id, outcome=outcome), cloud.services
    )


def merge(cloud: Cloud, count: int = MERGED) -> list[DeltaOutcome]:
    return [outcome_of(cloud, put_delta(cloud, n)) for n in range(count)]


def refuse(cloud: Cloud, number: int = 99, reason: str = "row 7 holds NaN") -> DeltaOutcome:
    key = put_delta(cloud, number)
    cloud.objects.put(layout.quarantine_key(key), cloud.objects.objects[key].body)
    return outcome_of(cloud, key, "quarantined", reason)


def ring(cloud: Cloud, *keys: str) -> None:
    cloud.queue.notify([DeltaNotice(key, 1, 1) for key in keys])


def when(cloud: Cloud, call: str, then: Callable[[], object]) -> None:
    """Run `then` once, just before the store's next `call`."""
    waiting = [True]

    def hook(name: str, _key: str) -> None:
        if name == call and waiting:
            waiting.clear()
            then()

    cloud.objects.before = hook


class TestArchiving:
    def test_merged_deltas_move_to_compacted_byte_for_byte(self) -> None:
        cloud = a_cloud()
        outcomes = merge(cloud)
        bodies = {o.key: cloud.objects.objects[o.key].body for o in outcomes}

        cleaned = run(cloud, publish(cloud, 1, outcomes))

        assert cleaned.archived == MERGED
        assert cloud.objects.keys("delta/") == set()
        assert {
            layout.pending_key(key): cloud.objects.objects[key].body for key in cloud.objects.keys("compacted/")
        } == bodies

    def test_what_the_pass_did_not_merge_stays_pending(self) -> None:
        cloud = a_cloud()
        outcomes = merge(cloud)
        late = put_delta(cloud, 50)
        missing = outcome_of(cloud, put_delta(cloud, 51), "missing")

        run(cloud, publish(cloud, 1, [*outcomes, missing]))

        assert cloud.objects.keys("delta/") == {late, missing.key}

    def test_a_second_run_answers_as_the_first_and_changes_nothing(self) -> None:
        cloud = a_cloud()
        snapshot_id = publish(cloud, 1, [*merge(cloud), refuse(cloud)])
        first = run(cloud, snapshot_id)
        standing = dict(cloud.objects.objects)

        assert run(cloud, snapshot_id) == first
        assert cloud.objects.objects == standing
        assert len(cloud.queue.letters) == 1

    def test_a_delta_that_is_already_gone_is_no_trouble(self) -> None:
        cloud = a_cloud()
        outcomes = merge(cloud)
        snapshot_id = publish(cloud, 1, outcomes)
        cloud.objects.delete([outcomes[0].key])

        assert run(cloud, snapshot_id).archived == MERGED

    def test_a_delta_rewritten_before_the_copy_stays_pending(self) -> None:
        cloud = a_cloud()
        outcomes = merge(cloud)
        snapshot_id = publish(cloud, 1, outcomes)
        cloud.objects.put(outcomes[1].key, b"other content")

        assert run(cloud, snapshot_id).archived == MERGED - 1
        assert cloud.objects.keys("delta/") == {outcomes[1].key}

    def test_a_delta_rewritten_between_copy_and_delete_stays_pending(self) -> None:
        cloud = a_cloud()
        outcomes = merge(cloud)
        snapshot_id = publish(cloud, 1, outcomes)
        when(cloud, "delete_if", lambda: cloud.objects.put(outcomes[1].key, b"other content"))

        assert run(cloud, snapshot_id).archived == MERGED - 1
        assert cloud.objects.objects[outcomes[1].key].body == b"other content"

    def test_four_thousand_deltas_are_moved_with_one_copy_each(self) -> None:
        cloud = a_cloud()
        snapshot_id = publish(cloud, 1, merge(cloud, 4000))
        cloud.objects.calls.clear()

        assert run(cloud, snapshot_id).archived == 4000
        assert sum(call == "copy" for call, _ in cloud.objects.calls) == 4000
        assert sum(call in {"get", "head", "list"} for call, _ in cloud.objects.calls) < 10

    def test_the_snapshot_is_marked_as_cleaned(self) -> None:
        cloud = a_cloud()
        snapshot_id = publish(cloud, 1, merge(cloud))

        run(cloud, snapshot_id)

        assert json.loads(cloud.objects.objects[layout.cleaned_key(snapshot_id)].body) == {
            "format": 1,
            "cleaned_at": cloud.clock(),
            "archived": MERGED,
            "quarantined": 0,
            "messages_deleted": 0,
        }


class TestPassesThatPublishedNothing:
    def test_deltas_that_changed_nothing_are_archived_under_the_standing_snapshot(self) -> None:
        cloud = a_cloud()
        snapshot_id = publish(cloud, 1, [])
        outcome = layout.outcome_key(EXECUTION, 1)
        cloud.objects.put(outcome, pack_outcomes(merge(cloud)))

        assert run(cloud, snapshot_id, outcome).archived == MERGED
        assert layout.cleaned_key(snapshot_id) not in cloud.objects.objects

    def test_before_the_first_snapshot_empty_and_refused_deltas_go_too(self) -> None:
        cloud = a_cloud()
        outcome = layout.outcome_key(EXECUTION, 1)
        cloud.objects.put(outcome, pack_outcomes([*merge(cloud), refuse(cloud)]))

        cleaned = run(cloud, None, outcome)

        assert (cleaned.archived, cleaned.quarantined, cleaned.skipped) == (MERGED, 1, None)
        assert cloud.objects.keys("delta/") == set()


class TestAnotherSnapshotPublished:
    def test_a_snapshot_rolled_back_before_keeps_its_deltas_pending(self) -> None:
        cloud = a_cloud()
        put_snapshot(cloud, 1)
        outcomes = merge(cloud)
        snapshot_id = publish(cloud, 2, outcomes)
        point_to(cloud, 1, swap=3)

        cleaned = run(cloud, snapshot_id)

        assert cleaned.skipped == f"{snapshot_id} is no longer what is published; nothing was moved"
        assert cloud.objects.keys("compacted/") == set()
        assert cloud.objects.keys("delta/") == {o.key for o in outcomes}

    def test_a_snapshot_rolled_back_while_its_deltas_are_copied_keeps_them_pending(self) -> None:
        cloud = a_cloud()
        put_snapshot(cloud, 1)
        outcomes = [*merge(cloud), refuse(cloud)]
        snapshot_id = publish(cloud, 2, outcomes)
        when(cloud, "copy", lambda: point_to(cloud, 1, swap=3))

        cleaned = run(cloud, snapshot_id)

        assert cleaned.skipped
        assert cloud.objects.keys("delta/") == {o.key for o in outcomes}
        assert layout.cleaned_key(snapshot_id) not in cloud.objects.objects
        assert cloud.queue.letters == []

    def test_a_snapshot_that_another_replaced_leaves_its_deltas_to_the_next_pass(self) -> None:
        cloud = a_cloud()
        outcomes = merge(cloud)
        snapshot_id = publish(cloud, 1, outcomes)
        publish(cloud, 2, [])

        assert run(cloud, snapshot_id).skipped
        assert cloud.objects.keys("delta/") == {o.key for o in outcomes}

    def test_a_snapshot_whose_pointer_is_gone_is_not_published(self) -> None:
        cloud = a_cloud()
        snapshot_id = publish(cloud, 1, merge(cloud))
        cloud.objects.delete(["snapshot/CURRENT"])

        assert run(cloud, snapshot_id).skipped


class TestQuarantine:
    def test_a_refused_delta_leaves_delta_and_its_reason_reaches_the_dead_letters(self) -> None:
        cloud = a_cloud()
        refused = refuse(cloud)

        cleaned = run(cloud, publish(cloud, 1, [refused]))

        assert cleaned.quarantined == 1
        assert cloud.objects.keys("delta/") == set()
        assert [json.loads(letter) for letter in cloud.queue.letters] == [
            {"format": 1, "key": refused.key, "reason": "row 7 holds NaN"}
        ]

    @pytest.mark.parametrize("copy", [None, b"cut"])
    def test_a_refused_delta_without_a_whole_copy_stays_pending(self, copy: bytes | None) -> None:
        cloud = a_cloud()
        refused = refuse(cloud)
        quarantined = layout.quarantine_key(refused.key)
        cloud.objects.delete([quarantined])
        if copy is not None:
            cloud.objects.put(quarantined, copy)

        cleaned = run(cloud, publish(cloud, 1, [refused]))

        assert cleaned.quarantined == 0
        assert cloud.objects.keys("delta/") == {refused.key}
        assert cloud.queue.letters == []

    def test_a_refused_delta_rewritten_meanwhile_stays_pending(self) -> None:
        cloud = a_cloud()
        refused = refuse(cloud)
        snapshot_id = publish(cloud, 1, [refused])
        cloud.objects.put(refused.key, b"mended")

        assert run(cloud, snapshot_id).quarantined == 0
        assert cloud.objects.objects[refused.key].body == b"mended"


class TestNotices:
    def test_notices_of_moved_deltas_are_deleted(self) -> None:
        cloud = a_cloud()
        outcomes = [*merge(cloud), refuse(cloud)]
        ring(cloud, *(o.key for o in outcomes), outcomes[0].key)

        assert run(cloud, publish(cloud, 1, outcomes)).messages_deleted == 5
        assert cloud.queue.messages == {}

    def test_a_notice_that_came_late_goes_once_its_delta_is_gone(self) -> None:
        cloud = a_cloud()
        ring(cloud, "delta/docs/merged-an-hour-ago.parquet")

        assert run(cloud, publish(cloud, 1, merge(cloud))).messages_deleted == 1

    def test_the_notice_of_a_pending_delta_stays(self) -> None:
        cloud = a_cloud()
        ring(cloud, put_delta(cloud, 50))

        assert run(cloud, publish(cloud, 1, merge(cloud))).messages_deleted == 0
        assert len(cloud.queue.messages) == 1

    @pytest.mark.parametrize("body", ["hello", '{"format": 1, "key": "elsewhere/x.parquet", "rows": 1, "bytes": 1}'])
    def test_a_message_that_is_no_notice_goes_to_the_dead_letters(self, body: str) -> None:
        cloud = a_cloud()
        cloud.queue.send(body)

        assert run(cloud, publish(cloud, 1, merge(cloud))).messages_deleted == 1
        (letter,) = (json.loads(letter) for letter in cloud.queue.letters)
        assert (letter["key"], letter["body"]) == (None, body)
        assert cloud.queue.messages == {}

    def test_a_flood_of_messages_is_emptied_over_several_clean_ups(self) -> None:
        cloud = a_cloud()
        ring(cloud, *(f"delta/docs/{n}-gone.parquet" for n in range(1500)))

        first = run(cloud, publish(cloud, 1, merge(cloud)))

        assert first.messages_deleted == 1000 + MERGED


class TestCrashes:
    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_whatever_call_fails_nothing_is_lost_and_a_retry_finishes(self, data: st.DataObject) -> None:
        cloud = a_cloud()
        outcomes = [*merge(cloud), refuse(cloud)]
        bodies = {o.key: cloud.objects.objects[o.key].body for o in outcomes}
        ring(cloud, *bodies)
        snapshot_id = publish(cloud, 1, outcomes)
        cloud.objects.calls.clear()
        left = data.draw(st.integers(0, 25))
        lost = data.draw(st.booleans())

        def fail(_call: str, _key: str = "") -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise TransientStorageError("forced")

        for fake in (cloud.objects, cloud.queue):
            setattr(fake, "after" if lost else "before", fail)
        try:
            run(cloud, snapshot_id)
        except TransientStorageError:
            self.expect_every_delta_somewhere(cloud, bodies)
        left = 10**9
        cloud.queue.make_visible_again()

        cleaned = run(cloud, snapshot_id)

        assert (cleaned.archived, cleaned.quarantined) == (MERGED, 1)
        assert cloud.objects.keys("delta/") == set()
        assert cloud.queue.messages == {}
        assert {json.loads(letter)["key"] for letter in cloud.queue.letters} == {outcomes[-1].key}
        self.expect_every_delta_somewhere(cloud, bodies)

    def expect_every_delta_somewhere(self, cloud: Cloud, bodies: dict[str, bytes]) -> None:
        for key, body in bodies.items():
            places = (key, layout.compacted_key(key), layout.quarantine_key(key))
            assert body in {cloud.objects.objects[place].body for place in places if place in cloud.objects.objects}


class TestPruningAfterwards:
    def test_snapshots_past_their_retention_go(self) -> None:
        cloud = a_cloud(snapshot_retention_count=1)
        put_snapshot(cloud, 1)
        cloud.clock.tick(3 * 86_400)
        snapshot_id = publish(cloud, 2, merge(cloud))

        cleaned = run(cloud, snapshot_id)

        assert (cleaned.snapshots_pruned, cleaned.objects_pruned) == (1, 2)
        assert cloud.objects.keys(f"snapshot/{a_snapshot_id(1)}") == set()
