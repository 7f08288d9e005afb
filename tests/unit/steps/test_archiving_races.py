"""A clean-up that is overtaken by a rollback between its last look at the pointer and its deletes."""

from tests.fakes.published import a_snapshot_id
from tests.merged_history import MergedHistory


def overtaken(history: MergedHistory) -> None:
    """Let the next clean-up stand still at its first delete while an operator rolls back to snapshot 1."""

    def roll_back(call: str, key: str) -> None:
        if call == "delete_if":
            history.fakes.objects.before = lambda _call, _key: None
            history.fakes.leases.leases.clear()
            history.roll_back(1, replay=True)

    history.fakes.objects.before = roll_back


def test_what_was_replayed_meanwhile_is_pending_again() -> None:
    history = MergedHistory()
    history.publish(1)
    overtaken(history)

    history.publish(2)

    assert history.pointer.snapshot_id == a_snapshot_id(1)
    assert history.pending == {history.merged[2]}


def test_what_was_written_again_under_the_same_name_stays_as_it_is() -> None:
    history = MergedHistory()
    history.publish(1)
    overtaken(history)

    def write_again(call: str, key: str) -> None:
        if call == "delete_if":
            history.fakes.objects.put(key, b"other rows")

    history.fakes.objects.after = write_again

    history.publish(2)

    assert history.fakes.objects.get(history.merged[2]).body == b"other rows"
