"""A rollback between the last pointer check of a clean-up and its deletes."""

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import TransientStorageError
from tests.fakes.published import a_snapshot_id
from tests.merged_history import MergedHistory


def roll_back_during_the_next_clean_up(history: MergedHistory) -> None:
    """Let an operator roll back to snapshot 1 just before the first delete of the next clean-up."""

    def roll_back(_key: str) -> None:
        history.fakes.leases.leases.clear()
        history.roll_back(1, replay=True)

    history.fakes.objects.run_before_next("delete_if", roll_back)


def test_deltas_replayed_during_clean_up_are_pending_again() -> None:
    history = MergedHistory()
    history.publish(1)
    roll_back_during_the_next_clean_up(history)

    history.publish(2)

    assert history.pointer.snapshot_id == a_snapshot_id(1)
    assert history.pending == {history.merged[2]}


def test_a_delta_rewritten_during_clean_up_is_not_overwritten() -> None:
    history = MergedHistory()
    history.publish(1)
    roll_back_during_the_next_clean_up(history)

    def write_again(call: str, key: str) -> None:
        if call == "delete_if":
            history.fakes.objects.put(key, b"other rows")

    history.fakes.objects.after = write_again

    history.publish(2)

    assert history.fakes.objects.get(history.merged[2]).body == b"other rows"


def test_a_delta_whose_copy_is_not_found_is_named_when_it_should_be_pending_again() -> None:
    history = MergedHistory()
    history.publish(1)
    roll_back_during_the_next_clean_up(history)
    objects = history.fakes.objects

    def lose_the_copy(call: str, key: str) -> None:
        if call == "delete_if":
            objects.objects.pop(layout.compacted_key(key), None)

    objects.after = lose_the_copy

    with pytest.raises(TransientStorageError, match="S3 does not find their copies, such as compacted/"):
        history.publish(2)
