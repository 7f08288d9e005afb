"""A pruning and a rollback to what it prunes, where the lock did not keep them apart."""

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.lease import DAY_SECONDS
from chromadb_compaction.steps.pruning import NOTHING, prune
from tests.fakes.cloud import a_cloud
from tests.fakes.published import a_snapshot_id
from tests.merged_history import MergedHistory

FIRST, SECOND = a_snapshot_id(1), a_snapshot_id(2)


@pytest.fixture
def history() -> MergedHistory:
    """Two snapshots, of which the first is past its retention."""
    history = MergedHistory(a_cloud(snapshot_retention_count=1))
    history.publish(1)
    history.publish(2)
    history.cloud.clock.tick(30 * DAY_SECONDS)
    return history


def keys_of(history: MergedHistory, snapshot_id: str) -> set[str]:
    return history.cloud.objects.keys(f"snapshot/{snapshot_id}/")


def test_without_a_rollback_the_old_snapshot_goes(history: MergedHistory) -> None:
    assert prune(SECOND, history.cloud.services).snapshots == 1
    assert keys_of(history, FIRST) == set()


def test_a_snapshot_rolled_back_to_at_the_last_moment_stays_whole(history: MergedHistory) -> None:
    whole = keys_of(history, FIRST)

    def roll_back(call: str, key: str) -> None:
        if call == "delete":
            history.cloud.objects.before = lambda _call, _key: None
            history.roll_back(1)

    history.cloud.objects.before = roll_back

    assert prune(SECOND, history.cloud.services) == NOTHING
    assert history.pointer.snapshot_id == FIRST
    assert keys_of(history, FIRST) == whole


def test_a_rollback_to_what_was_pruned_while_it_stood_still_is_undone(history: MergedHistory) -> None:
    def prune_it(call: str, key: str) -> None:
        if call == "put_if":
            history.cloud.objects.before = lambda _call, _key: None
            prune(SECOND, history.cloud.services)

    history.cloud.objects.before = prune_it

    with pytest.raises(SnapshotCorruptError, match="has just been pruned"):
        history.roll_back(1)
    assert history.pointer.snapshot_id == SECOND
    assert layout.manifest_key(SECOND) in history.cloud.objects.objects


def test_two_prunings_at_once_do_what_one_does(history: MergedHistory) -> None:
    def prune_too(call: str, key: str) -> None:
        if (call, key) == ("get", layout.manifest_key(FIRST)):
            history.cloud.objects.before = lambda _call, _key: None
            prune(SECOND, history.cloud.services)

    history.cloud.objects.before = prune_too

    prune(SECOND, history.cloud.services)

    assert keys_of(history, FIRST) == set()
    assert layout.manifest_key(SECOND) in keys_of(history, SECOND)
