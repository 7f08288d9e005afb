from __future__ import annotations

from chromadb_compaction.snapshots.lineage import Line, line_of, not_before, undone
from tests.fakes.published import a_snapshot_id


def ids(*numbers: int) -> tuple[str, ...]:
    return tuple(a_snapshot_id(number) for number in numbers)


def parents(**of: int | None) -> dict[str, str | None]:
    return {
        a_snapshot_id(int(number[1:])): None if parent is None else a_snapshot_id(parent)
        for number, parent in of.items()
    }


def back(current: int, target: int, known: dict[str, str | None]) -> Line:
    return undone(a_snapshot_id(current), a_snapshot_id(target), known)


STRAIGHT = parents(n1=None, n2=1, n3=2, n4=3)
FORKED = parents(n1=None, n2=1, n3=2, n5=2, n6=5)
"""3 was rolled back from; 5 and 6 were published after that."""


def test_an_older_snapshot_undoes_what_was_published_after_it_the_newest_first() -> None:
    assert back(4, 2, STRAIGHT) == (ids(4, 3), None)


def test_the_published_snapshot_itself_undoes_nothing() -> None:
    assert back(4, 4, STRAIGHT) == ((), None)


def test_rolling_forward_to_a_descendant_undoes_nothing() -> None:
    assert back(2, 4, STRAIGHT) == ((), None)


def test_what_was_rolled_back_before_is_not_undone_again() -> None:
    assert back(6, 2, FORKED) == (ids(6, 5), None)


def test_changing_to_another_line_undoes_what_is_not_shared() -> None:
    assert back(6, 3, FORKED) == (ids(6, 5), None)


def test_a_snapshot_missing_in_between_cuts_the_line_and_is_named() -> None:
    known = {snapshot: parent for snapshot, parent in STRAIGHT.items() if snapshot != a_snapshot_id(3)}

    assert back(4, 2, known) == (ids(4), a_snapshot_id(3))


def test_two_lines_may_meet_in_a_snapshot_that_has_gone() -> None:
    known = {snapshot: parent for snapshot, parent in FORKED.items() if snapshot != a_snapshot_id(2)}

    assert back(6, 3, known) == (ids(6, 5), None)


def test_a_line_ends_where_its_oldest_parent_is_unknown() -> None:
    known = parents(n3=2, n4=3)

    assert line_of(a_snapshot_id(4), known) == (ids(4, 3), a_snapshot_id(2))


def test_a_manifest_that_names_a_descendant_as_its_parent_ends_the_line() -> None:
    assert line_of(a_snapshot_id(2), parents(n1=2, n2=1)).snapshots == ids(2, 1)


def test_where_the_line_is_unknown_all_that_is_as_new_counts() -> None:
    assert not_before(a_snapshot_id(2), [*ids(1, 2, 3), "0000000002-ffffffff"]) == (
        a_snapshot_id(3),
        "0000000002-ffffffff",
    )
