"""Marks of work in progress: they stay only after a kill, and blame what the killed process worked on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from chromadb_compaction import layout
from chromadb_compaction.deltas.attempts import attempts_of, is_set_aside, read_attempts
from chromadb_compaction.deltas.deaths import Process, blame_for_deaths, running, running_whole_pass
from chromadb_compaction.errors import TransientStorageError
from chromadb_compaction.planning import ObjectInfo
from tests.fakes.objects import InMemoryObjectStore
from tests.turns import next_turn

ONE, TWO = "arn:one", "arn:two"


@pytest.fixture
def objects() -> Iterator[InMemoryObjectStore]:
    yield InMemoryObjectStore()
    _killed.clear()


def a_pending(number: int, collection: str = "docs") -> ObjectInfo:
    return ObjectInfo(key=f"delta/{collection}/{number:04d}.parquet", bytes=1, etag="e", modified=0)


_killed: list[AbstractContextManager[None]] = []


def kill(
    objects: InMemoryObjectStore, *deltas: ObjectInfo, collection: str | None = None, execution: str = ONE
) -> None:
    """Begin work and never end it."""
    process = Process(execution, 1, "fold" if collection else "merge-0000")
    work = running(process, objects, deltas=deltas, collections=[collection] if collection else [])
    work.__enter__()
    _killed.append(work)  # its block ends when it is collected as garbage, after the test


def blame(objects: InMemoryObjectStore) -> bool:
    return blame_for_deaths(list(objects.list(layout.RUNNING_PREFIX)), objects)


def test_work_that_ends_leaves_no_mark_even_after_an_error(objects: InMemoryObjectStore) -> None:
    def work() -> None:
        with running(Process(ONE, 1, "merge-0000"), objects, deltas=[a_pending(1)]):
            assert objects.keys(layout.RUNNING_PREFIX)
            raise TransientStorageError("503")

    with pytest.raises(TransientStorageError):
        work()
    assert not objects.keys()
    assert not blame(objects)


def end_without_deleting_the_mark(objects: InMemoryObjectStore) -> None:
    def fail(call: str, _key: str) -> None:
        if call == "delete":
            raise TransientStorageError("503")

    objects.before = fail
    with running(Process(ONE, 1, "merge-0000"), objects, deltas=[a_pending(1)]):
        pass
    objects.before = lambda _call, _key: None


def test_an_error_while_the_mark_is_deleted_does_not_hide_the_result(objects: InMemoryObjectStore) -> None:
    end_without_deleting_the_mark(objects)

    assert objects.keys(layout.RUNNING_PREFIX)


def test_work_that_ended_is_not_blamed_for_a_mark_that_it_could_not_delete(objects: InMemoryObjectStore) -> None:
    end_without_deleting_the_mark(objects)

    assert not blame(objects)
    assert not objects.keys()


def test_the_only_delta_of_a_killed_process_has_failed(objects: InMemoryObjectStore) -> None:
    kill(objects, a_pending(1))

    assert blame(objects)
    found = attempts_of(a_pending(1), read_attempts(objects))
    assert (found.failures, found.suspected) == (1, 0)
    assert b"was killed" in objects.get(str(found.latest)).body
    assert not objects.keys(layout.RUNNING_PREFIX)


def test_deltas_that_were_merged_together_are_suspected_and_then_planned_alone(objects: InMemoryObjectStore) -> None:
    kill(objects, a_pending(1), a_pending(2))
    blame(objects)

    turn = next_turn([a_pending(1), a_pending(2), a_pending(3)], read_attempts(objects), max_failures=1)
    assert (turn.deltas, turn.later) == ([a_pending(3)], True)
    turn = next_turn([a_pending(1), a_pending(2)], read_attempts(objects), max_failures=1)
    assert (turn.deltas, turn.alone, turn.set_aside) == ([a_pending(1), a_pending(2)], True, 0)


def test_a_suspect_is_set_aside_only_once_it_was_killed_alone(objects: InMemoryObjectStore) -> None:
    for execution in (ONE, TWO, "arn:three"):
        kill(objects, a_pending(1), a_pending(2), execution=execution)
        blame(objects)
    assert not is_set_aside(attempts_of(a_pending(1), read_attempts(objects)), max_failures=2)

    kill(objects, a_pending(1), execution="arn:four")
    blame(objects)
    marks = read_attempts(objects)
    assert is_set_aside(attempts_of(a_pending(1), marks), max_failures=2)
    assert not is_set_aside(attempts_of(a_pending(2), marks), max_failures=2)


def test_a_killed_fold_delays_all_deltas_of_its_collection_and_sets_them_aside_in_the_end(
    objects: InMemoryObjectStore,
) -> None:
    pending = [a_pending(1), a_pending(2), a_pending(1, "other")]
    kill(objects, collection="docs")
    blame(objects)

    first = next_turn(pending, read_attempts(objects), max_failures=2)
    then = next_turn(pending[:2], read_attempts(objects), max_failures=2)
    kill(objects, collection="docs", execution=TWO)
    blame(objects)
    last = next_turn(pending, read_attempts(objects), max_failures=2)

    assert (first.deltas, first.later) == (pending[2:], True)
    assert (then.deltas, then.alone) == (pending[:2], False)
    assert (last.deltas, last.later, last.set_aside) == (pending[2:], False, 2)


def test_folds_that_were_killed_together_are_suspected_and_take_a_pass_each(objects: InMemoryObjectStore) -> None:
    kill(objects, collection="docs")
    kill(objects, collection="other")
    blame(objects)
    pending = [a_pending(1), a_pending(1, "other")]

    turn = next_turn(pending, read_attempts(objects), max_failures=1)

    assert (turn.deltas, turn.later, turn.set_aside) == (pending[:1], True, 0)


def test_a_delta_that_is_suspected_again_gets_a_pass_of_its_own(objects: InMemoryObjectStore) -> None:
    pending = [a_pending(1), a_pending(2)]
    for execution in (ONE, TWO):
        kill(objects, *pending, execution=execution)
        blame(objects)

    turn = next_turn(pending, read_attempts(objects), max_failures=2)

    assert (turn.deltas, turn.alone, turn.later) == (pending[:1], True, True)


WHOLE = Process(ONE, 1, "fold")


def kill_whole(objects: InMemoryObjectStore, *collections: str, seconds_left: float | None = None) -> None:
    """Begin the work on a whole pass and never end it."""
    work = running_whole_pass(WHOLE, objects, collections, seconds_left=seconds_left)
    work.__enter__()
    _killed.append(work)


def wait_for_timers() -> None:
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


def marked_collections(objects: InMemoryObjectStore) -> dict[str, tuple[int, int]]:
    found = read_attempts(objects)
    prefix = layout.COLLECTION_ATTEMPTS_PREFIX
    return {folder.removeprefix(prefix)[:-1]: (each.failures, each.suspected) for folder, each in found.items()}


def test_a_killed_process_without_a_closer_mark_blames_all_collections_of_its_pass(
    objects: InMemoryObjectStore,
) -> None:
    kill_whole(objects, "docs", "other")
    blame(objects)

    assert marked_collections(objects) == {"docs": (0, 1), "other": (0, 1)}


@pytest.mark.parametrize(("seconds_left", "marks"), [(None, (0, 1)), (0.0, (1, 0))])
def test_the_only_collection_of_a_killed_pass_has_failed_only_if_time_ran_out(
    objects: InMemoryObjectStore, seconds_left: float | None, marks: tuple[int, int]
) -> None:
    kill_whole(objects, "docs", seconds_left=seconds_left)
    wait_for_timers()
    blame(objects)

    assert marked_collections(objects) == {"docs": marks}


def test_the_part_that_a_killed_process_worked_on_is_blamed_before_the_rest(objects: InMemoryObjectStore) -> None:
    kill_whole(objects, "docs", "other")
    kill(objects, collection="docs")
    blame(objects)

    assert marked_collections(objects) == {"docs": (1, 0)}


def test_a_process_that_is_killed_out_of_time_blames_its_whole_pass(objects: InMemoryObjectStore) -> None:
    kill_whole(objects, "docs", "other", seconds_left=0)
    kill(objects, collection="docs")
    wait_for_timers()
    blame(objects)

    assert marked_collections(objects) == {"docs": (0, 1), "other": (0, 1)}
    (mark, *_) = objects.keys(layout.COLLECTION_ATTEMPTS_PREFIX)
    assert b"its timeout was reached" in objects.get(mark).body


def test_work_that_ends_in_its_last_seconds_leaves_no_mark(objects: InMemoryObjectStore) -> None:
    with running_whole_pass(WHOLE, objects, ["docs"], seconds_left=1):
        pass

    assert not objects.keys()


def test_a_mark_of_a_later_version_with_more_fields_is_read(objects: InMemoryObjectStore) -> None:
    kill(objects, a_pending(1))
    (key,) = objects.keys(layout.RUNNING_PREFIX)
    objects.put(key, objects.get(key).body[:-1] + b', "more": 1}')

    assert blame(objects)


def test_suspected_collections_come_in_passes_of_an_eighth(objects: InMemoryObjectStore) -> None:
    names = [f"docs-{number:02d}" for number in range(32)]
    kill_whole(objects, *names)
    blame(objects)

    turn = next_turn([a_pending(1, name) for name in names], read_attempts(objects), max_failures=3)

    assert (len(turn.deltas), turn.later) == (4, True)


def test_each_failure_of_a_collection_makes_its_next_pass_smaller(objects: InMemoryObjectStore) -> None:
    pending = [a_pending(number) for number in range(4000)]
    sizes = []
    for execution in (ONE, TWO):
        kill(objects, collection="docs", execution=execution)
        blame(objects)
        sizes.append(len(next_turn(pending, read_attempts(objects), max_failures=3).deltas))

    assert sizes == [500, 62]
