"""A collection whose fold does not fit stops no other one, and none of its deltas is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from chromadb_compaction.errors import DiskFullError, SnapshotTooLargeError
from chromadb_compaction.fold import workers
from chromadb_compaction.fold.fold import fold_collection
from chromadb_compaction.snapshots.base import ensure_copies
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.steps import download_snapshot, upload_snapshot
from tests.builders import NOW, BuiltDelta, a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import Pass

SMALL = a_delta({"small": [1, 0]}, collection="small", at=NOW)
LARGE = a_delta({"large": [1, 0]}, collection="large", at=NOW + 1)
CORRUPT = a_delta({"corrupt": [1, 0, 0]}, collection="large", at=NOW + 2)


@pytest.fixture
def fakes() -> Fakes:
    fakes = new_fakes(max_delta_failures=2)
    for delta in (SMALL, LARGE, CORRUPT):
        delta.put_into(fakes.objects)
    return fakes


@contextmanager
def too_large(*names: str) -> Iterator[None]:
    def fold(request: Any, **options: Any) -> Any:
        if request.collection in names:
            raise DiskFullError("the disk is full", next_step="raise it")
        return fold_collection(request, **options)

    with patch.object(workers, "fold_collection", fold):
        yield


def execute(fakes: Fakes, name: str) -> list[Any]:
    """Run all passes of one execution, and return the results of UploadSnapshot."""
    done = []
    for number in range(1, 10):
        one = Pass(fakes, f"arn:execution:{name}", number)
        if not one.find().deltas:
            break
        one.download()
        one.merge()
        done.append(one.upload())
        one.clean_up(done[-1])
        if not one.listing.more:
            break
    return done


def collections(fakes: Fakes) -> set[str]:
    pointer = read_pointer(fakes.services)
    return set(read_manifest(fakes.services, pointer.pointer).collections) if pointer else set()


def keys(*deltas: BuiltDelta) -> set[str]:
    return {delta.key for delta in deltas}


def test_the_others_are_published_and_its_deltas_stay_pending(fakes: Fakes) -> None:
    with too_large("large"):
        (done,) = execute(fakes, "one")

    assert (done.published, done.too_large, done.deltas_merged, done.deltas_left) == (True, ["large"], 1, 1)
    assert done.deltas_quarantined == 1
    assert collections(fakes) == {"small"}
    assert fakes.objects.keys("delta/") == keys(LARGE)
    (mark,) = fakes.objects.keys("work/attempts/collections/large/")
    assert b"the disk is full; raise it" in fakes.objects.get(mark).body


def test_once_it_fits_it_is_merged(fakes: Fakes) -> None:
    with too_large("large"):
        execute(fakes, "one")
    execute(fakes, "two")

    assert collections(fakes) == {"small", "large"}
    assert not fakes.objects.keys("delta/")


def test_an_execution_that_finds_nothing_else_fails_until_the_collection_is_set_aside(fakes: Fakes) -> None:
    with too_large("large"):
        execute(fakes, "one")
        with pytest.raises(SnapshotTooLargeError, match="the disk is full"):
            execute(fakes, "two")

        assert execute(fakes, "three") == []
        assert Pass(fakes, "arn:execution:four").find().set_aside == 1


def test_copies_that_do_not_fit_together_are_taken_one_by_one(fakes: Fakes) -> None:
    def ensure(services: Any, base: Any, names: Any) -> int:
        if len(list(names)) > 1:
            raise DiskFullError("the disk is full", next_step="raise it")
        return ensure_copies(services, base, names)

    with patch.object(download_snapshot, "ensure_copies", ensure):
        with pytest.raises(SnapshotTooLargeError):
            execute(fakes, "one")
        assert len(execute(fakes, "two")) == 2

    assert collections(fakes) == {"small", "large"}


def test_the_test_finds_deltas_that_are_archived_without_being_folded(fakes: Fakes) -> None:
    with too_large("large"), patch.object(upload_snapshot, "_without", lambda outcomes, *_: outcomes):
        execute(fakes, "one")

    assert not fakes.objects.keys("delta/")  # lost: no collection has its rows
    assert collections(fakes) == {"small"}
