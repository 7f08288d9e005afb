from __future__ import annotations

from chromadb_compaction.snapshots.lineage import Lineage, as_new_as, lineage_of, lineage_since
from tests.fakes.published import a_snapshot_id


def ids(*numbers: int) -> tuple[str, ...]:
    return tuple(a_snapshot_id(number) for number in numbers)


def parents(**of: int | None) -> dict[str, str | None]:
    return {
        a_snapshot_id(int(number[1:])): None if parent is None else a_snapshot_id(parent)
        for number, parent in of.items()
    }


def since(target: int, current: int, known: dict[str, str | None]) -> Lineage:
    return lineage_since(a_snapshot_id(target), a_snapshot_id(current), known)


STRAIGHT = parents(n1=None, n2=1, n3=2, n4=3)
FORKED = parents(n1=None, n2=1, n3=2, n5=2, n6=5)
"""3 was rolled back from; 5 and 6 were published after that."""


def test_snapshots_published_after_an_ancestor_are_returned_newest_first() -> None:
    assert since(2, 4, STRAIGHT) == (ids(4, 3), None)


def test_the_published_snapshot_itself_leaves_nothing_out() -> None:
    assert since(4, 4, STRAIGHT) == ((), None)


def test_a_descendant_leaves_nothing_out() -> None:
    assert since(4, 2, STRAIGHT) == ((), None)


def test_snapshots_rolled_back_from_before_are_not_returned() -> None:
    assert since(2, 6, FORKED) == (ids(6, 5), None)


def test_only_snapshots_after_the_common_ancestor_are_returned() -> None:
    assert since(3, 6, FORKED) == (ids(6, 5), None)


def test_a_missing_snapshot_before_the_common_ancestor_is_the_unknown_parent() -> None:
    known = {snapshot: parent for snapshot, parent in STRAIGHT.items() if snapshot != a_snapshot_id(3)}

    assert since(2, 4, known) == (ids(4), a_snapshot_id(3))


def test_the_common_ancestor_may_be_missing() -> None:
    known = {snapshot: parent for snapshot, parent in FORKED.items() if snapshot != a_snapshot_id(2)}

    assert since(3, 6, known) == (ids(6, 5), None)


def test_a_lineage_ends_where_the_oldest_parent_is_unknown() -> None:
    known = parents(n3=2, n4=3)

    assert lineage_of(a_snapshot_id(4), known) == (ids(4, 3), a_snapshot_id(2))


def test_a_manifest_that_names_a_descendant_as_its_parent_ends_the_lineage() -> None:
    assert lineage_of(a_snapshot_id(2), parents(n1=2, n2=1)).snapshots == ids(2, 1)


def test_snapshots_of_the_same_sequence_or_a_later_one_are_as_new() -> None:
    assert as_new_as(a_snapshot_id(2), [*ids(1, 2, 3), "0000000002-ffffffff"]) == (
        a_snapshot_id(3),
        "0000000002-ffffffff",
    )
