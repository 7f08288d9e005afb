"""A rollback while a clean-up that has lost its lease still works: nothing is lost, nothing published is deleted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chromadb_compaction import layout
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.messages import CleanedUp, CleanUpRequest
from chromadb_compaction.steps.clean_up import clean_up
from tests.fakes.cloud import EXECUTION, Cloud, a_cloud
from tests.fakes.published import a_snapshot_id, outcome_of, point_to, publish, put_delta, put_snapshot
from tests.merged_history import MergedHistory

MERGED = 3


def run(cloud: Cloud, snapshot_id: str) -> CleanedUp:
    cloud.hold_lease()
    outcome = layout.merged_deltas_key(snapshot_id)
    request = CleanUpRequest(execution=EXECUTION, pass_number=1, snapshot_id=snapshot_id, outcome=outcome)
    return clean_up(request, cloud.services)


def merge(cloud: Cloud, count: int = MERGED) -> list[DeltaOutcome]:
    return [outcome_of(cloud, put_delta(cloud, n)) for n in range(count)]


def refuse(cloud: Cloud) -> DeltaOutcome:
    key = put_delta(cloud, 99)
    cloud.objects.put(layout.quarantine_key(key), cloud.objects.objects[key].body)
    return outcome_of(cloud, key, "quarantined", "row 7 holds NaN")


def when(cloud: Cloud, call: str, then: Callable[[], object]) -> None:
    """Run `then` once, just before the store's next `call`."""
    waiting = [True]

    def hook(name: str, _key: str) -> None:
        if name == call and waiting:
            waiting.clear()
            then()

    cloud.objects.before = hook


@pytest.fixture
def history() -> MergedHistory:
    """Four snapshots, the last one published, all cleaned up."""
    made = MergedHistory()
    for number in (1, 2, 3, 4):
        made.publish(number)
    return made


class TestARollbackInBetween:
    def test_what_was_taken_away_after_the_pointer_was_swapped_is_pending_again(self) -> None:
        cloud = a_cloud()
        put_snapshot(cloud, 1)
        outcomes = merge(cloud)
        bodies = {o.key: cloud.objects.objects[o.key].body for o in outcomes}
        snapshot_id = publish(cloud, 2, outcomes)
        when(cloud, "delete_if", lambda: point_to(cloud, 1, swap=3))

        cleaned = run(cloud, snapshot_id)

        assert cleaned.skipped is not None
        assert {key: cloud.objects.objects[key].body for key in cloud.objects.keys("delta/")} == bodies
        assert layout.cleaned_key(snapshot_id) not in cloud.objects.objects

    def test_it_is_put_back_even_if_the_lease_has_gone_too(self) -> None:
        cloud = a_cloud()
        put_snapshot(cloud, 1)
        snapshot_id = publish(cloud, 2, merge(cloud))

        def roll_back() -> None:
            cloud.leases.leases.clear()
            point_to(cloud, 1, swap=3)

        when(cloud, "delete_if", roll_back)
        run(cloud, snapshot_id)

        assert len(cloud.objects.keys("delta/")) == MERGED

    def test_a_delta_that_the_rollback_has_put_back_itself_is_left_alone(self) -> None:
        cloud = a_cloud()
        put_snapshot(cloud, 1)
        (outcome,) = merge(cloud, 1)
        snapshot_id = publish(cloud, 2, [outcome])

        def roll_back(call: str, key: str) -> None:
            if (call, key) == ("delete_if", outcome.key):
                point_to(cloud, 1, swap=3)
                cloud.objects.put(outcome.key, b"written again")

        cloud.objects.before = roll_back
        run(cloud, snapshot_id)

        assert cloud.objects.objects[outcome.key].body == b"written again"

    def test_what_was_refused_stays_in_quarantine_only(self) -> None:
        cloud = a_cloud()
        put_snapshot(cloud, 1)
        snapshot_id = publish(cloud, 2, [refuse(cloud)])
        when(cloud, "delete_if", lambda: point_to(cloud, 1, swap=3))

        run(cloud, snapshot_id)

        assert cloud.objects.keys("delta/") == set()


def test_a_snapshot_that_a_clean_up_is_pruning_is_refused_and_nothing_has_changed(history: MergedHistory) -> None:
    before = history.pointer
    history.cloud.objects.put(f"{layout.pruning_prefix(a_snapshot_id(2))}0123456789abcdef.json", b"{}")

    with pytest.raises(SnapshotCorruptError, match="a clean-up is deleting it"):
        history.roll_back(2, replay=True)

    assert history.pointer == before
    assert history.pending == set()


def test_a_snapshot_that_was_pruned_since_the_list_was_read_is_refused(history: MergedHistory) -> None:
    before = history.pointer

    def prune(call: str, key: str) -> None:
        if (call, key) == ("list", layout.pruning_prefix(a_snapshot_id(2))):
            history.cloud.objects.objects.pop(layout.manifest_key(a_snapshot_id(2)))

    history.cloud.objects.before = prune
    with pytest.raises(SnapshotCorruptError, match="choose another"):
        history.roll_back(2)

    assert history.pointer == before


def test_the_mark_of_a_clean_up_that_died_long_ago_is_no_obstacle(history: MergedHistory) -> None:
    history.cloud.objects.put(f"{layout.pruning_prefix(a_snapshot_id(2))}0123456789abcdef.json", b"{}")
    history.cloud.clock.tick(2 * 86_400)

    assert history.roll_back(2).swapped


def test_a_rollback_claims_the_snapshot_before_it_looks_for_marks_and_until_it_is_published(
    history: MergedHistory,
) -> None:
    claims: dict[str, bool] = {}

    def look(call: str, key: str) -> None:
        claims[f"{call} {key}"] = bool(history.cloud.objects.keys(layout.claim_prefix(a_snapshot_id(2))))

    history.cloud.objects.before = look
    history.roll_back(2)

    assert claims[f"list {layout.pruning_prefix(a_snapshot_id(2))}"]
    assert claims[f"put_if {layout.pointer_key()}"]
    assert history.cloud.objects.keys(layout.claim_prefix(a_snapshot_id(2))) == set()
