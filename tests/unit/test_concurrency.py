"""Many small calls at once: answers in order, and an error that stops what has not begun."""

import threading
import time

import pytest

from chromadb_compaction.concurrency import THREADS, ahead, in_threads
from chromadb_compaction.errors import TransientStorageError


def test_answers_come_in_the_order_of_the_questions() -> None:
    def slow_if_small(number: int) -> int:
        time.sleep(0.01 if number < 3 else 0)
        return number * number

    assert in_threads(slow_if_small, range(10)) == [number * number for number in range(10)]


def test_no_question_is_no_thread() -> None:
    before = threading.active_count()

    assert in_threads(str, []) == []
    assert threading.active_count() == before


def test_calls_run_side_by_side() -> None:
    together = threading.Barrier(8, timeout=5)

    in_threads(lambda _number: together.wait(), range(8))


def test_the_first_error_is_raised_and_what_has_not_begun_never_does() -> None:
    begun: list[int] = []

    def fail_at_once(number: int) -> None:
        begun.append(number)
        time.sleep(0.02)
        raise TransientStorageError(f"call {number}")

    with pytest.raises(TransientStorageError, match="call 0"):
        in_threads(fail_at_once, range(100 * THREADS))

    assert len(begun) < 50 * THREADS  # on a busy machine the error is noticed late


def test_what_is_fetched_ahead_comes_in_order() -> None:
    def slow_if_small(number: int) -> int:
        time.sleep(0.01 if number < 3 else 0)
        return number * number

    answers = ahead(slow_if_small, range(20), weigh=lambda _: 1, most=5, threads=4)

    assert list(answers) == [number * number for number in range(20)]


def test_no_more_is_begun_ahead_than_the_limit_weighs() -> None:
    begun: list[int] = []
    two = threading.Barrier(2, timeout=5)

    def meet_one_other(size: int) -> None:
        begun.append(size)
        two.wait()

    answers = ahead(meet_one_other, [3, 3, 3, 3], weigh=lambda size: size, most=7, threads=4)

    next(answers)

    assert begun == [3, 3]


def test_one_item_over_the_limit_goes_alone() -> None:
    begun: list[int] = []
    answers = ahead(begun.append, [1, 100, 1], weigh=lambda size: size, most=7, threads=4)

    next(answers)
    next(answers)

    assert begun == [1, 100]
    assert len(list(answers)) == 1


def test_an_error_ahead_is_raised_in_its_turn() -> None:
    def fail_on_two(number: int) -> int:
        if number == 2:
            raise TransientStorageError("call 2")
        return number

    answers = ahead(fail_on_two, range(5), weigh=lambda _: 1, most=5, threads=2)

    assert [next(answers), next(answers)] == [0, 1]
    with pytest.raises(TransientStorageError, match="call 2"):
        next(answers)
