"""A rollback while a clean-up without its lease still works: nothing is lost, and nothing published is deleted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chromadb_compaction import layout
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.messages import CleanedUp, CleanUpRequest
from chromadb_compaction.steps.clean_up import clean_up
from tests.fakes.published import a_snapshot_id, outcome_of, point_to, publish, put_delta, put_snapshot
from tests.fakes.services import EXECUTION, Fakes, new_fakes
from tests.merged_history import MergedHistory

MERGED = 3


def run(fakes: Fakes, snapshot_id: str) -> CleanedUp:
    fakes.hold_lease()
    outcome = layout.merged_deltas_key(snapshot_id)
    request = CleanUpRequest(execution=EXECUTION, pass_number=1, snapshot_id=snapshot_id, outcome=outcome)
    return clean_up(request, fakes.services)


def merge(fakes: Fakes, count: int = MERGED) -> list[DeltaOutcome]:
    return [outcome_of(fakes, put_delta(fakes, n)) for n in range(count)]


def put_quarantined(fakes: Fakes) -> DeltaOutcome:
    key = put_delta(fakes, 99)
    fakes.objects.put(layout.quarantine_key(key), fakes.objects.objects[key].body)
    return outcome_of(fakes, key, "quarantined", "row 7 holds NaN")


def when(fakes: Fakes, call: str, then: Callable[[], object]) -> None:
    """Run `then` once, just before the store's next `call`."""
    waiting = [True]

    def hook(name: str, _key: str) -> None:
        if name == call and waiting:
            waiting.clear()
            then()

    fakes.objects.before = hook


class TestARollbackDuringACleanUp:
    def test_deltas_archived_after_the_pointer_was_swapped_are_pending_again(self) -> None:
        fakes = new_fakes()
        put_snapshot(fakes, 1)
        outcomes = merge(fakes)
        bodies = {o.key: fakes.objects.objects[o.key].body for o in outcomes}
        snapshot_id = publish(fakes, 2, outcomes)
        when(fakes, "delete_if", lambda: point_to(fakes, 1, swap=3))

        cleaned = run(fakes, snapshot_id)

        assert cleaned.skipped is not None
        assert {key: fakes.objects.objects[key].body for key in fakes.objects.keys("delta/")} == bodies
        assert layout.cleaned_key(snapshot_id) not in fakes.objects.objects

    def test_they_are_pending_again_even_if_the_lease_is_lost_too(self) -> None:
        fakes = new_fakes()
        put_snapshot(fakes, 1)
        snapshot_id = publish(fakes, 2, merge(fakes))

        def roll_back() -> None:
            fakes.leases.leases.clear()
            point_to(fakes, 1, swap=3)

        when(fakes, "delete_if", roll_back)
        run(fakes, snapshot_id)

        assert len(fakes.objects.keys("delta/")) == MERGED

    def test_a_delta_that_was_written_again_meanwhile_is_left_alone(self) -> None:
        fakes = new_fakes()
        put_snapshot(fakes, 1)
        (outcome,) = merge(fakes, 1)
        snapshot_id = publish(fakes, 2, [outcome])

        def roll_back(call: str, key: str) -> None:
            if (call, key) == ("delete_if", outcome.key):
                point_to(fakes, 1, swap=3)
                fakes.objects.put(outcome.key, b"written again")

        fakes.objects.before = roll_back
        run(fakes, snapshot_id)

        assert fakes.objects.objects[outcome.key].body == b"written again"

    def test_quarantined_deltas_stay_in_quarantine_only(self) -> None:
        fakes = new_fakes()
        put_snapshot(fakes, 1)
        snapshot_id = publish(fakes, 2, [put_quarantined(fakes)])
        when(fakes, "delete_if", lambda: point_to(fakes, 1, swap=3))

        run(fakes, snapshot_id)

        assert fakes.objects.keys("delta/") == set()


def test_a_snapshot_that_a_clean_up_is_pruning_is_refused_and_nothing_has_changed(history: MergedHistory) -> None:
    before = history.pointer
    history.fakes.objects.put(f"{layout.pruning_prefix(a_snapshot_id(2))}0123456789abcdef.json", b"{}")

    with pytest.raises(SnapshotCorruptError, match="a clean-up is deleting it"):
        history.roll_back(2, replay=True)

    assert history.pointer == before
    assert history.pending == set()


def test_a_snapshot_that_was_pruned_since_the_list_was_read_is_refused(history: MergedHistory) -> None:
    before = history.pointer

    def prune(call: str, key: str) -> None:
        if (call, key) == ("list", layout.pruning_prefix(a_snapshot_id(2))):
            history.fakes.objects.objects.pop(layout.manifest_key(a_snapshot_id(2)))

    history.fakes.objects.before = prune
    with pytest.raises(SnapshotCorruptError, match="choose another"):
        history.roll_back(2)

    assert history.pointer == before


def test_an_old_mark_of_a_crashed_clean_up_is_ignored(history: MergedHistory) -> None:
    history.fakes.objects.put(f"{layout.pruning_prefix(a_snapshot_id(2))}0123456789abcdef.json", b"{}")
    history.fakes.clock.tick(2 * 86_400)

    assert history.roll_back(2).swapped


def test_a_rollback_claims_the_snapshot_before_it_lists_marks_and_until_it_is_published(
    history: MergedHistory,
) -> None:
    claims: dict[str, bool] = {}

    def record_claim(call: str, key: str) -> None:
        claims[f"{call} {key}"] = bool(history.fakes.objects.keys(layout.claim_prefix(a_snapshot_id(2))))

    history.fakes.objects.before = record_claim
    history.roll_back(2)

    assert claims[f"list {layout.pruning_prefix(a_snapshot_id(2))}"]
    assert claims[f"put_if {layout.pointer_key()}"]
    assert history.fakes.objects.keys(layout.claim_prefix(a_snapshot_id(2))) == set()
