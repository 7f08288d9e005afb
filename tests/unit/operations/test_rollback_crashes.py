from __future__ import annotations

import pytest

from chromadb_compaction import layout
from chromadb_compaction.ports import StoredObject
from chromadb_compaction.steps.clean_up import archive_published
from tests.fakes.published import a_snapshot_id
from tests.fakes.services import EXECUTION
from tests.merged_history import MergedHistory
from tests.unit.operations.crashes import CrashError, crash_at


def recovered(history: MergedHistory) -> None:
    history.fakes.objects.before = lambda _call, _key: None
    history.fakes.leases.leases.clear()


def calls_of_a_rollback() -> int:
    history = a_history_with_every_case()
    before = len(history.fakes.objects.calls)
    history.roll_back(2, replay=True, without=(history.merged[4],))
    return len(history.fakes.objects.calls) - before


def a_history_with_every_case() -> MergedHistory:
    """The last snapshot is not cleaned up yet, so that its delta is still pending."""
    history = MergedHistory()
    for number in (1, 2, 3, 4):
        history.publish(number)
    history.publish(5, clean=False)
    return history


@pytest.mark.parametrize("moment", range(calls_of_a_rollback()))
def test_a_crash_at_any_point_loses_nothing_and_the_command_can_run_again(moment: int) -> None:
    history = a_history_with_every_case()
    everything = set(history.merged.values())
    excluded = history.merged[4]
    crash_at(history.fakes, moment)
    with pytest.raises(CrashError):
        history.roll_back(2, replay=True, without=(excluded,))
    recovered(history)

    assert history.accounted_for() >= everything - {excluded}
    finished = archive_finished(history)
    assert finished.accounted_for() >= everything - {excluded}

    history.roll_back(2, replay=True, without=(excluded,))
    assert history.pointer.snapshot_id == a_snapshot_id(2)
    assert history.pending == {history.merged[3], history.merged[5]}
    assert layout.quarantine_key(excluded) in history.fakes.objects.objects


def test_deltas_archived_after_the_lock_of_a_stalled_rollback_expired_are_pending_again() -> None:
    """The execution that took over the lock found nothing new in them, archived them, and left the pointer."""
    history = MergedHistory()
    for number in (1, 2, 3):
        history.publish(number)

    def overtake(call: str, key: str) -> None:
        if call == "put_if":
            history.fakes.objects.before = lambda _call, _key: None
            history.fakes.clock.tick(history.fakes.settings.lease_seconds + 1)
            history.fakes.hold_lease()
            history.fakes.objects.delete([history.merged[2], history.merged[3]])

    history.fakes.objects.before = overtake

    history.roll_back(1, replay=True)

    assert history.pointer.snapshot_id == a_snapshot_id(1)
    assert history.pending == {history.merged[2], history.merged[3]}


def archive_finished(history: MergedHistory) -> MergedHistory:
    """Return a copy of the bucket in which ListDeltas has finished the published snapshot's clean-up."""
    copy = MergedHistory(merged=history.merged)
    copy.fakes.objects.objects = {key: StoredObject(*stored) for key, stored in history.fakes.objects.objects.items()}
    current = copy.pointer.snapshot_id
    if layout.cleaned_key(current) not in copy.fakes.objects.objects:
        archive_published(
            current,
            layout.merged_deltas_key(current),
            copy.fakes.services,
            execution=EXECUTION,
            check_lease=lambda: None,
        )
    return copy
