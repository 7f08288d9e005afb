"""A pass that takes longer than its function may is not planned again unchanged, and what fits is published.

Every task takes time for each delta and each collection that it works on. Lambda kills a task at its deadline, and the
next execution gets a new deadline, so a plan that does not become smaller never ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest

from chromadb_compaction.deltas import attempts, deaths, formats
from chromadb_compaction.errors import CompactionError
from chromadb_compaction.fold import workers
from chromadb_compaction.fold.fold import fold_collection
from chromadb_compaction.pending import listed
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.base import ensure_copies
from chromadb_compaction.snapshots.files import upload
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.steps import download_snapshot, publication
from tests.builders import NOW, BuiltDelta, a_delta
from tests.crash.test_killed_by_a_delta import KilledError, die
from tests.fakes.services import Fakes, new_fakes
from tests.passes import Pass

TIMEOUT = 900.0
MAX_FAILURES = 3
_numbers = count()


class _InlineTimer:
    """A timer that the slow work calls itself, because the clock of these tests moves only there."""

    def __init__(self, seconds: float, note: Any) -> None:
        self.seconds, self.note = seconds, note
        self.daemon = True

    def start(self) -> None:
        _timers.append(self)

    def cancel(self) -> None:
        _timers.remove(self)

    def join(self) -> None:
        pass


_timers: list[_InlineTimer] = []


class Slow:
    """The clock of one execution, whose tasks are killed at their deadline."""

    def __init__(self, fakes: Fakes) -> None:
        self.fakes = fakes
        self.ends = 0.0

    def services(self) -> Services:
        """Return the services of a task that begins now."""
        _timers.clear()
        self.ends = self.fakes.clock() + TIMEOUT
        return self.fakes.services_until(self.ends)

    def work(self, seconds: float) -> None:
        """Take time. If the deadline passes meanwhile, the process is out of time first, and then killed."""
        self.fakes.clock.tick(seconds)
        if self.fakes.clock() > self.ends - deaths.LAST_SECONDS:
            for timer in _timers:
                timer.note()
        if self.fakes.clock() > self.ends:
            die(self.fakes)


@contextmanager
def slow(
    fakes: Fakes, *, download: float = 0, merge: float = 0, fold: float = 0, upload_each: float = 0, row: float = 0
) -> Iterator[Slow]:
    """Let each collection take `download`, `fold` and `upload_each` seconds, each delta `merge`, each row `row`."""
    clock = Slow(fakes)
    reading = formats.read_delta

    def copies(services: Services, base: Any, names: Any) -> int:
        for _ in list(names):
            clock.work(download)
        return ensure_copies(services, base, names)

    def read(*arguments: Any, **options: Any) -> Any:
        clock.work(merge)
        return reading(*arguments, **options)

    def one_fold(request: Any, **options: Any) -> Any:
        clock.work(fold + row * sum(path.stat().st_size > 0 for path in request.runs))
        options["progress"]()
        return fold_collection(request, **options)

    def uploads(services: Services, files: Any) -> Any:
        for _ in {file.path.parent for file in files}:
            clock.work(upload_each)
        return upload(services, files)

    with ExitStack() as stack:
        stack.enter_context(patch.object(download_snapshot, "ensure_copies", copies))
        stack.enter_context(patch.object(listed, "read_delta", read))
        stack.enter_context(patch.object(workers, "fold_collection", one_fold))
        stack.enter_context(patch.object(publication, "upload", uploads))
        stack.enter_context(patch.object(deaths, "Timer", _InlineTimer))
        yield clock


def execute(fakes: Fakes, clock: Slow) -> list[int]:
    """Run one execution. Return the number of deltas that each pass published, until one failed."""
    name = f"arn:execution:slow-{next(_numbers)}"
    alive = fakes.objects.before
    published: list[int] = []
    try:
        for number in range(1, 26):
            one = Pass(fakes, name, number, clock.services)
            if not one.find().deltas:
                break
            one.download()
            one.merge()
            done = one.upload()
            one.clean_up(done)
            published.append(done.deltas_merged)
            if not one.listing.more:
                break
    except KilledError:
        fakes.objects.before = alive
    except CompactionError:
        pass
    return published


def execute_until_done(fakes: Fakes, clock: Slow, *, most: int) -> int:
    """Run executions until nothing can be merged. Return their number."""
    for number in range(1, most + 1):
        execute(fakes, clock)
        if not Pass(fakes, f"arn:look-{next(_numbers)}").find().deltas:
            return number
    return most + 1


def records(fakes: Fakes) -> int:
    pointer = read_pointer(fakes.services)
    return read_manifest(fakes.services, pointer.pointer).records if pointer else 0


def some_deltas(fakes: Fakes, collections: int, each: int) -> list[BuiltDelta]:
    made = [
        a_delta({f"{name}-{number}": [1, 0]}, at=NOW + 100 * name + number, collection=f"docs-{name:02d}")
        for name in range(collections)
        for number in range(each)
    ]
    for delta in made:
        delta.put_into(fakes.objects)
    return made


@pytest.fixture
def fakes() -> Fakes:
    return new_fakes(max_delta_failures=MAX_FAILURES, compaction_batch_size=4, max_batches_per_pass=20)


@pytest.mark.parametrize("task", ["download", "fold", "upload_each"])
def test_a_pass_over_too_many_collections_is_divided(fakes: Fakes, task: str) -> None:
    some_deltas(fakes, collections=16, each=2)

    with slow(fakes, **{task: 100}) as clock:
        executions = execute_until_done(fakes, clock, most=6)

    assert executions <= 4
    assert records(fakes) == 32
    assert not fakes.objects.keys("delta/")


def test_a_merge_that_takes_too_long_is_divided(fakes: Fakes) -> None:
    deltas = some_deltas(fakes, collections=1, each=4)

    with slow(fakes, merge=400) as clock:
        executions = execute_until_done(fakes, clock, most=6)

    assert executions <= 3
    assert records(fakes) == len(deltas)


def test_the_folds_that_fit_are_published_in_time(fakes: Fakes) -> None:
    some_deltas(fakes, collections=16, each=1)

    with slow(fakes, fold=100) as clock:
        (first,) = execute(fakes, clock)

    assert first == 6  # 600 s of the 675 s that folds may take
    assert not fakes.objects.keys("work/attempts/")


def test_a_collection_whose_pass_takes_too_long_gets_smaller_passes(fakes: Fakes) -> None:
    deltas = some_deltas(fakes, collections=1, each=60)

    with slow(fakes, row=100) as clock:  # a run holds up to four deltas, so a full pass has fifteen runs
        execute_until_done(fakes, clock, most=5)

    assert records(fakes) == len(deltas)


@pytest.mark.parametrize("task", ["download", "fold", "upload_each"])
def test_a_collection_that_never_fits_is_set_aside_and_the_others_go_on(fakes: Fakes, task: str) -> None:
    some_deltas(fakes, collections=1, each=3)

    with slow(fakes, **{task: 1000}) as clock:
        results = [execute(fakes, clock) for _ in range(MAX_FAILURES)]
        assert results == [[]] * MAX_FAILURES
        assert Pass(fakes, "arn:look").find().set_aside == 3

    a_delta({"late": [1, 0]}, at=NOW + 5000, collection="other").put_into(fakes.objects)
    with slow(fakes) as clock:
        assert execute(fakes, clock) == [1]


@pytest.mark.parametrize("task", ["download", "fold", "upload_each"])
def test_the_test_finds_a_pass_that_is_planned_again_unchanged(fakes: Fakes, task: str) -> None:
    some_deltas(fakes, collections=1, each=60)
    unchanged = patch.object(attempts, "_rank", lambda _marks: (False, 0, 0, False, False))
    same_limits = patch.object(attempts, "_limits_of", lambda _rank, limits, _attempts: limits)
    no_failures = patch.object(attempts, "_has_failed_too_often", lambda _marks, _most: False)

    with slow(fakes, **{task: 1000}) as clock, unchanged, same_limits, no_failures:
        assert not any(execute(fakes, clock) for _ in range(2 * MAX_FAILURES))
        assert Pass(fakes, "arn:look").find().set_aside == 0


@pytest.mark.parametrize("task", ["download", "upload_each"])
def test_the_test_finds_a_pass_that_leaves_no_mark(fakes: Fakes, task: str) -> None:
    some_deltas(fakes, collections=16, each=2)
    no_blame = patch("chromadb_compaction.steps.list_deltas.blame_for_deaths", lambda _marks, _objects: False)

    with slow(fakes, **{task: 100}) as clock, no_blame:
        assert execute_until_done(fakes, clock, most=6) == 7

    assert records(fakes) == 0
