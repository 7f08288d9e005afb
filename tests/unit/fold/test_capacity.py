"""Work that a function cannot hold is refused before it starts, with the sizes and the remedy."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.errors import SnapshotTooLargeError
from chromadb_compaction.fold.capacity import FoldSize, folds_at_once, folds_too_large
from chromadb_compaction.settings import MEBIBYTE, Settings
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes
from tests.passes import Pass, compact

EXECUTION = "arn:aws:states:eu-west-1:000000000000:execution:chromadb-compaction-dev:large"


class Disk(NamedTuple):
    free: int


def function_with(megabytes: int | None) -> Settings:
    return Settings(chromadb_bucket="a-bucket", aws_lambda_function_memory_size=megabytes)


def set_memory(fakes: Fakes, megabytes: int) -> None:
    fakes.settings = fakes.settings.model_copy(update={"aws_lambda_function_memory_size": megabytes})


def test_the_error_states_the_collections_size_the_memory_needed_and_the_functions_memory() -> None:
    found = folds_too_large([FoldSize("small", 1000), FoldSize("docs", 10**9)], function_with(2000))

    assert found.keys() == {"docs"}
    assert str(found["docs"]).startswith(
        "docs: folding its vectors, 1,000,000,000 bytes, may take 2,462,144,000 bytes of memory,"
        " the function has 2,097,152,000; raise the compactor's memory"
    )


def test_a_fold_that_fits_exactly_is_accepted() -> None:
    assert not folds_too_large([FoldSize("docs", 100 * MEBIBYTE)], function_with(470))


def test_without_a_memory_limit_every_fold_is_accepted() -> None:
    assert not folds_too_large([FoldSize("docs", 10**15)], function_with(None))


def test_as_many_folds_run_at_once_as_fit_in_memory() -> None:
    sizes = [FoldSize("one", 0), FoldSize("two", 100 * MEBIBYTE), FoldSize("three", 0)]

    assert folds_at_once(sizes, function_with(400)) == 1
    assert folds_at_once(sizes, function_with(720)) == 2
    assert folds_at_once(sizes, function_with(970)) == 3
    assert folds_at_once(sizes, function_with(None)) == 3


@given(st.lists(st.integers(0, 10**9).map(lambda size: FoldSize("docs", size)), min_size=1), st.integers(1, 10_000))
def test_any_combination_of_folds_that_run_at_once_fits_in_memory(sizes: list[FoldSize], megabytes: int) -> None:
    together = folds_at_once(sizes, function_with(megabytes))

    largest = sorted((size.memory for size in sizes), reverse=True)[:together]
    assert together == 1 or sum(largest) <= megabytes * MEBIBYTE


def test_a_pass_that_memory_cannot_hold_is_refused_before_any_download_or_change(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    a_delta({"b": [0, 1]}, at=NOW + 1).put_into(fakes.objects)
    one = Pass(fakes, EXECUTION).up_to_upload()
    set_memory(fakes, 250)
    before, calls = fakes.objects.objects.copy(), len(fakes.objects.calls)

    with pytest.raises(SnapshotTooLargeError, match="docs: folding its vectors, 16 bytes"):
        one.upload()

    (mark,) = fakes.objects.objects.keys() - before.keys()
    assert mark == "work/attempts/collections/docs/large.failed.json"
    assert not [call for call, _ in fakes.objects.calls[calls:] if call in {"download", "get_range"}]


def test_deletes_need_no_memory_for_vectors(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1.0] * 4000}))
    a_delta(deletes=[f"id-{number}" for number in range(1000)], at=NOW + 1).put_into(fakes.objects)
    one = Pass(fakes, EXECUTION).up_to_upload()
    set_memory(fakes, 251)

    assert one.upload().published


def test_runs_that_the_disk_cannot_hold_are_refused_before_their_download(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_delta({"a": [1, 0]}).put_into(fakes.objects)
    one = Pass(fakes, EXECUTION).up_to_upload()
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Disk(free=10))

    with pytest.raises(SnapshotTooLargeError, match=r"10 are free; raise the compactor's ephemeral storage"):
        one.upload()
    assert not {"download", "get_range"} & {call for call, _ in fakes.objects.calls}
