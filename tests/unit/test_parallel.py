"""Many small calls at once: answers in order, and an error that stops what has not begun."""

import threading
import time

import pytest

from chromadb_compaction.errors import TransientStorageError
from chromadb_compaction.steps.parallel import THREADS, in_threads


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
        time.sleep(0.005)
        raise TransientStorageError(f"call {number}")

    with pytest.raises(TransientStorageError, match="call 0"):
        in_threads(fail_at_once, range(100 * THREADS))

    assert len(begun) < 10 * THREADS
