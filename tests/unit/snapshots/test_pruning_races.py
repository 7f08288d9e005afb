"""Two prunings at the same time, without the lock. For a pruning and a rollback see test_rollback_races.py."""

import pytest

from chromadb_compaction import layout
from chromadb_compaction.lease import DAY_SECONDS
from chromadb_compaction.snapshots.pruning import prune
from tests.fakes.published import a_snapshot_id
from tests.fakes.services import new_fakes
from tests.merged_history import MergedHistory

FIRST, SECOND = a_snapshot_id(1), a_snapshot_id(2)


@pytest.fixture
def history() -> MergedHistory:
    """Two snapshots, the first one past its retention."""
    history = MergedHistory(new_fakes(snapshot_retention_count=1))
    history.publish(1)
    history.publish(2)
    history.fakes.clock.tick(30 * DAY_SECONDS)
    return history


def keys_of(history: MergedHistory, snapshot_id: str) -> set[str]:
    return history.fakes.objects.keys(f"snapshot/{snapshot_id}/")


def test_without_a_rollback_the_old_snapshot_is_deleted(history: MergedHistory) -> None:
    assert prune(SECOND, history.fakes.services).snapshots == 1
    assert keys_of(history, FIRST) == set()


def test_two_prunings_at_once_have_the_same_result_as_one(history: MergedHistory) -> None:
    def prune_too(call: str, key: str) -> None:
        if (call, key) == ("get", layout.manifest_key(FIRST)):
            history.fakes.objects.before = lambda _call, _key: None
            prune(SECOND, history.fakes.services)

    history.fakes.objects.before = prune_too

    prune(SECOND, history.fakes.services)

    assert keys_of(history, FIRST) == set()
    assert layout.manifest_key(SECOND) in keys_of(history, SECOND)
