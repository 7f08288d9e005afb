"""A delta or a fold that gets its process killed, as when memory runs out, does not stop the others for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest

from chromadb_compaction.deltas import formats
from chromadb_compaction.fold import workers
from chromadb_compaction.fold.fold import fold_collection
from chromadb_compaction.pending import listed
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.steps import list_deltas
from tests.builders import NOW, BuiltDelta, a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import Pass

MAX_FAILURES = 3


class KilledError(BaseException):
    """SIGKILL. No code catches it, and the process makes no further call."""


def die(fakes: Fakes) -> None:
    """Kill the process: every later call of it is killed too."""

    def dead(_call: str, _key: str) -> None:
        raise KilledError

    fakes.objects.before = dead
    raise KilledError


@contextmanager
def killed_by_reading(fakes: Fakes, poison: BuiltDelta) -> Iterator[None]:
    right = formats.read_delta

    def read(key: str, *arguments: Any, **options: Any) -> Any:
        if key == poison.key:
            die(fakes)
        return right(key, *arguments, **options)

    with patch.object(listed, "read_delta", read):
        yield


@contextmanager
def killed_by_folding(fakes: Fakes, collection: str) -> Iterator[None]:
    right = fold_collection

    def fold(request: Any, **options: Any) -> Any:
        if request.collection == collection:
            die(fakes)
        return right(request, **options)

    with patch.object(workers, "fold_collection", fold):
        yield


_numbers = count()


def execute(fakes: Fakes) -> bool:
    """Run one execution. Return whether it succeeded."""
    name = f"arn:execution:{next(_numbers)}"
    alive = fakes.objects.before
    try:
        for number in range(1, 26):
            one = Pass(fakes, name, number)
            if not one.find().deltas:
                break
            one.download()
            one.merge()
            one.clean_up(one.upload())
            if not one.listing.more:
                break
    except KilledError:
        fakes.objects.before = alive
        return False
    return True


def records(fakes: Fakes) -> int:
    pointer = read_pointer(fakes.services)
    return read_manifest(fakes.services, pointer.pointer).records if pointer else 0


def some_deltas(collection: str, start: int, number: int) -> list[BuiltDelta]:
    return [
        a_delta({f"{collection}-{start + each}": [1, 0]}, at=NOW + start + each, collection=collection)
        for each in range(number)
    ]


@pytest.fixture
def fakes() -> Fakes:
    return new_fakes(max_delta_failures=MAX_FAILURES, compaction_batch_size=5)


@pytest.mark.parametrize("position", [0, 4, 11])
def test_a_delta_that_kills_its_process_is_found_and_set_aside(fakes: Fakes, position: int) -> None:
    deltas = some_deltas("docs", 0, 12)
    for delta in deltas:
        delta.put_into(fakes.objects)

    with killed_by_reading(fakes, deltas[position]):
        results = [execute(fakes) for _ in range(MAX_FAILURES + 1)]
        late = a_delta({"late": [1, 1]}, at=NOW + 50)
        late.put_into(fakes.objects)
        results.append(execute(fakes))

        assert results == [False] * MAX_FAILURES + [True, True]
        assert records(fakes) == len(deltas)  # all but the one, and the late one
        assert fakes.objects.keys("delta/") == {deltas[position].key}
        assert Pass(fakes, "arn:next").find().set_aside == 1


def test_a_fold_that_kills_its_process_does_not_stop_other_collections(fakes: Fakes) -> None:
    for delta in (*some_deltas("docs", 0, 3), *some_deltas("large", 10, 3)):
        delta.put_into(fakes.objects)

    with killed_by_folding(fakes, "large"):
        for number in range(MAX_FAILURES):
            assert not execute(fakes)
            for delta in (*some_deltas("docs", 20 + number, 1), *some_deltas("large", 30 + number, 1)):
                delta.put_into(fakes.objects)

        assert execute(fakes)
        assert records(fakes) == 3 + MAX_FAILURES
        assert len(fakes.objects.keys("delta/")) == 3 + MAX_FAILURES
        assert all(key.startswith("delta/large/") for key in fakes.objects.keys("delta/"))


def test_the_test_finds_a_killed_process_that_nobody_blames(fakes: Fakes) -> None:
    deltas = some_deltas("docs", 0, 12)
    for delta in deltas:
        delta.put_into(fakes.objects)

    with (
        killed_by_reading(fakes, deltas[4]),
        patch.object(list_deltas, "blame_for_deaths", lambda _marks, _objects: False),
    ):
        assert not any(execute(fakes) for _ in range(3 * MAX_FAILURES))
        assert records(fakes) == 0
