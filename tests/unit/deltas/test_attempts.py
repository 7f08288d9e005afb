"""Attempts: deltas without marks come first, whatever others do, and nothing pending is forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction import layout
from chromadb_compaction.deltas.attempts import attempts_by_folder, is_set_aside, mark, read_attempts
from chromadb_compaction.deltas.attempts import attempts_of as attempts
from chromadb_compaction.errors import DeltaFailedError, UnreadableObjectError
from chromadb_compaction.planning import ObjectInfo
from tests.fakes.objects import InMemoryObjectStore
from tests.turns import next_turn

UNREADABLE = UnreadableObjectError("archived")
FAILED = DeltaFailedError("KeyError")


def a_pending(number: int, etag: str = "e") -> ObjectInfo:
    return ObjectInfo(key=f"delta/docs/{number:04d}.parquet", bytes=1, etag=etag, modified=0)


def keys(deltas: list[ObjectInfo]) -> list[str]:
    return [delta.key for delta in deltas]


def test_other_content_under_the_same_key_has_no_marks() -> None:
    objects = InMemoryObjectStore()
    mark(a_pending(1), UNREADABLE, "arn:one", objects)

    assert attempts(a_pending(1), read_attempts(objects)).unreadable
    assert not attempts(a_pending(1, "other"), read_attempts(objects)).unreadable


def test_each_execution_counts_once() -> None:
    objects = InMemoryObjectStore()
    for execution in ("arn:one", "arn:one", "arn:two"):
        mark(a_pending(1), FAILED, execution, objects)

    assert attempts(a_pending(1), read_attempts(objects)).failures == 2


def test_a_delta_that_failed_is_planned_alone_after_all_others_and_set_aside_in_the_end() -> None:
    objects = InMemoryObjectStore()
    pending = [a_pending(1), a_pending(2), a_pending(3)]
    mark(pending[0], FAILED, "arn:one", objects)

    first = next_turn(pending, read_attempts(objects), max_failures=2)
    alone = next_turn(pending[:1], read_attempts(objects), max_failures=2)
    mark(pending[0], FAILED, "arn:two", objects)
    last = next_turn(pending[:1], read_attempts(objects), max_failures=2)

    assert (keys(first.deltas), first.alone, first.later) == (keys(pending[1:]), False, True)
    assert (keys(alone.deltas), alone.alone, alone.later) == (keys(pending[:1]), True, False)
    assert (keys(last.deltas), last.set_aside, last.later) == ([], 1, False)


def test_a_delta_waits_for_an_older_one_of_its_collection_that_may_be_a_drop() -> None:
    objects = InMemoryObjectStore()
    drop = ObjectInfo(key="delta/docs/0002.jsonl.gz", bytes=100, etag="e", modified=0)
    other = ObjectInfo(key="delta/other/0001.parquet", bytes=1, etag="e", modified=0)
    pending = [a_pending(1), drop, a_pending(3), other]
    mark(drop, FAILED, "arn:one", objects)

    first = next_turn(pending, read_attempts(objects), max_failures=2)
    then = next_turn(pending[1:3], read_attempts(objects), max_failures=2)
    mark(drop, FAILED, "arn:two", objects)
    without = next_turn(pending[1:3], read_attempts(objects), max_failures=2)

    assert keys(first.deltas) == [pending[0].key, other.key]
    assert keys(then.deltas) == [drop.key, pending[2].key]
    assert (keys(without.deltas), without.set_aside) == ([pending[2].key], 1)


def test_unreadable_deltas_are_tried_again_together_after_all_others() -> None:
    objects = InMemoryObjectStore()
    pending = [a_pending(n) for n in range(3)]
    for delta in pending[:2]:
        mark(delta, UNREADABLE, "arn:one", objects)

    first = next_turn(pending, read_attempts(objects), max_failures=2)
    then = next_turn(pending[:2], read_attempts(objects), max_failures=2)

    assert (keys(first.deltas), first.later, first.set_aside) == (keys(pending[2:]), True, 2)
    assert (keys(then.deltas), then.alone, then.later) == (keys(pending[:2]), False, False)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=8),
    st.integers(1, 3),
)
def test_every_pending_delta_has_its_turn_or_is_set_aside(found: list[tuple[bool, int]], most: int) -> None:
    objects = InMemoryObjectStore()
    pending = [a_pending(n) for n in range(len(found))]
    for delta, (unreadable, failures) in zip(pending, found, strict=True):
        if unreadable:
            mark(delta, UNREADABLE, "arn:any", objects)
        for execution in range(failures):
            mark(delta, FAILED, f"arn:{execution}", objects)
    marks = attempts_by_folder(objects.list(layout.ATTEMPTS_PREFIX))
    planned: list[str] = []
    left = list(pending)
    while (turn := next_turn(left, marks, max_failures=most)).deltas:
        planned += keys(turn.deltas)
        left = [delta for delta in left if delta.key not in planned]
        assert turn.later == bool(next_turn(left, marks, max_failures=most).deltas)
    set_aside = [delta for delta in left if is_set_aside(attempts(delta, marks), max_failures=most)]

    assert sorted(planned + keys(set_aside)) == keys(pending)
    clean = [delta.key for delta, mark_of in zip(pending, found, strict=True) if mark_of == (False, 0)]
    assert planned[: len(clean)] == clean
