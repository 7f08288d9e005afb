"""Many small calls at once: results in order, and an error that stops further calls."""

import threading
import time

import pytest

from chromadb_compaction.concurrency import THREADS, ahead, in_threads
from chromadb_compaction.errors import TransientStorageError


def test_results_are_in_the_order_of_the_items() -> None:
    def slow_if_small(number: int) -> int:
        time.sleep(0.01 if number < 3 else 0)
        return number * number

    assert in_threads(slow_if_small, range(10)) == [number * number for number in range(10)]


def test_no_items_start_no_thread() -> None:
    before = threading.active_count()

    assert in_threads(str, []) == []
    assert threading.active_count() == before


def test_calls_run_at_the_same_time() -> None:
    together = threading.Barrier(8, timeout=5)

    in_threads(lambda _number: together.wait(), range(8))


def test_the_first_error_is_raised_and_no_further_call_begins() -> None:
    begun: list[int] = []

    def fail_at_once(number: int) -> None:
        begun.append(number)
        time.sleep(0.02)
        raise TransientStorageError(f"call {number}")

    with pytest.raises(TransientStorageError, match="call 0"):
        in_threads(fail_at_once, range(100 * THREADS))

    assert len(begun) < 50 * THREADS  # on a busy machine the error is noticed late


def test_results_fetched_ahead_are_in_order() -> None:
    def slow_if_small(number: int) -> int:
        time.sleep(0.01 if number < 3 else 0)
        return number * number

    results = ahead(slow_if_small, range(20), weigh=lambda _: 1, most=5, threads=4)

    assert list(results) == [number * number for number in range(20)]


def test_calls_begun_ahead_stay_within_the_limit() -> None:
    begun: list[int] = []
    two = threading.Barrier(2, timeout=5)

    def meet_one_other(size: int) -> None:
        begun.append(size)
        two.wait()

    results = ahead(meet_one_other, [3, 3, 3, 3], weigh=lambda size: size, most=7, threads=4)

    next(results)

    assert begun == [3, 3]


def test_an_item_over_the_limit_is_handled_alone() -> None:
    begun: list[int] = []
    results = ahead(begun.append, [1, 100, 1], weigh=lambda size: size, most=7, threads=4)

    next(results)
    next(results)

    assert begun == [1, 100]
    assert len(list(results)) == 1


def test_an_error_ahead_is_raised_in_its_order() -> None:
    def fail_on_two(number: int) -> int:
        if number == 2:
            raise TransientStorageError("call 2")
        return number

    results = ahead(fail_on_two, range(5), weigh=lambda _: 1, most=5, threads=2)

    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(TransientStorageError, match="call 2"):
        next(results)
