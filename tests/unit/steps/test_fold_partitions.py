"""Folds by several functions: the plan, the parts of the manifest, and one swap with all of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from chromadb_compaction import layout
from chromadb_compaction.deltas.attempts import read_attempts
from chromadb_compaction.errors import (
    DiskFullError,
    OutOfTimeError,
    SnapshotCorruptError,
    SnapshotTooLargeError,
    VerificationError,
)
from chromadb_compaction.fold import collections, workers
from chromadb_compaction.fold.collections import FoldedDirectory, FoldRounds
from chromadb_compaction.fold.cost import FOLD_SECONDS, FoldLimits
from chromadb_compaction.fold.fold import FoldRequest
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.messages import FoldedItem, PublishedSnapshot
from chromadb_compaction.snapshots import base
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.steps import download_snapshot, fold_partitions, upload_snapshot
from tests.builders import NOW, a_delta, a_drop
from tests.fakes.services import Fakes, new_fakes
from tests.passes import Pass, compact

NAMES = ("docs", "notes", "texts")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fakes:
    """Return a bucket with three collections, of which a function folds one at a time from now on."""
    fakes = new_fakes(chromadb_cache_dir=tmp_path / "cache")
    compact(fakes, *(a_delta({"a": [1, 0], "b": [0, 1]}, collection=name, at=NOW - 100) for name in NAMES))
    for module in (upload_snapshot, download_snapshot):
        monkeypatch.setattr(module, "limits_of", lambda _services: FoldLimits(2 * FOLD_SECONDS, float("inf")))
    return fakes


def a_pass(fakes: Fakes, *names: str) -> Pass:
    for name in names or NAMES:
        a_delta({"a": [2, 0], "c": [3, 3]}, collection=name).put_into(fakes.objects)
    return Pass(fakes).up_to_upload()


def published(fakes: Fakes) -> Manifest:
    pointer = read_pointer(fakes.services)
    assert pointer is not None
    return read_manifest(fakes.services, pointer.pointer)


def folded(one: Pass, planned: PublishedSnapshot) -> list[FoldedItem]:
    return [one.fold(item) for item in planned.folds]


def test_the_first_call_plans_and_changes_nothing(fakes: Fakes) -> None:
    before = published(fakes)
    one = a_pass(fakes)

    planned = one.upload()
    skipped = one.clean_up(planned)

    assert (planned.published, planned.folds_left, planned.outcome) == (False, 3, "")
    assert [item.folds for item in planned.folds] == [1, 1, 1]
    assert skipped.skipped == "other functions fold first"
    assert published(fakes) == before


def test_the_second_call_publishes_all_folds_with_one_swap(fakes: Fakes) -> None:
    before = published(fakes).snapshot_id
    one = a_pass(fakes)
    results = folded(one, one.upload())
    assert published(fakes).snapshot_id == before

    done = one.upload(results)
    one.clean_up(done)

    manifest = published(fakes)
    assert done.published
    assert (done.snapshot_id, manifest.parent) == (manifest.snapshot_id, before)
    assert {name: each.records for name, each in manifest.collections.items()} == dict.fromkeys(NAMES, 3)
    assert all(each.conservation.holds() for each in manifest.collections.values())
    assert [(each.collection, each.added, each.replaced) for each in done.collections] == [
        (name, 1, 1) for name in NAMES
    ]
    assert done.deltas_merged == 3
    assert fakes.objects.keys("delta/") == set()
    assert all(fakes.objects.head(file.key) for file in manifest.files)


def test_a_repeated_fold_leaves_a_part_of_its_own_and_only_the_named_one_is_taken(fakes: Fakes) -> None:
    one = a_pass(fakes)
    planned = one.upload()
    abandoned = folded(one, planned)
    results = folded(one, planned)
    assert {each.key for each in results}.isdisjoint(each.key for each in abandoned)

    one.upload(results)

    named = {layout.snapshot_of_key(file.key) for file in published(fakes).files}
    assert named.isdisjoint(each.key.rpartition("/")[2].removesuffix(".json") for each in abandoned)


def test_a_repeated_second_call_returns_the_result_of_the_first(fakes: Fakes) -> None:
    one = a_pass(fakes)
    results = folded(one, one.upload())

    assert one.upload(results).model_copy(update={"seconds": {}}) == one.upload(results).model_copy(
        update={"seconds": {}}
    )


def test_a_part_that_is_not_the_one_that_was_named_is_refused(fakes: Fakes) -> None:
    one = a_pass(fakes)
    results = folded(one, one.upload())
    fakes.objects.put(results[0].key, fakes.objects.get(results[1].key).body)

    with pytest.raises(SnapshotCorruptError, match="its SHA-256 differs"):
        one.upload(results)


@pytest.mark.parametrize("wrong", [lambda results: results[:1], lambda results: [*results, results[0]]])
def test_parts_that_are_not_exactly_those_of_the_plan_are_refused(fakes: Fakes, wrong: object) -> None:
    one = a_pass(fakes)
    results = folded(one, one.upload())
    assert callable(wrong)

    with pytest.raises(VerificationError, match="not those of the plan"):
        one.upload(wrong(results))


def test_a_collection_that_does_not_fit_elsewhere_stays_pending_with_a_mark(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = a_pass(fakes)
    planned = one.upload()
    name = planned.folds[0].collection
    too_large = SnapshotTooLargeError(f"{name}: too large")
    with monkeypatch.context() as patched:
        patched.setattr(collections, "folds_too_large", lambda _sizes, _settings: {name: too_large})
        first = one.fold(planned.folds[0])

    done = one.upload([first, *(one.fold(item) for item in planned.folds[1:])])
    one.clean_up(done)

    assert (first.folds, first.left) == (0, 1)
    assert (done.too_large, done.deltas_left, done.deltas_merged) == ([name], 1, 2)
    assert [layout.collection_of_key(key) for key in fakes.objects.keys("delta/")] == [name]
    assert read_attempts(fakes.objects)[layout.collection_attempts_prefix(name)].failures == 1


def test_a_collection_that_a_drop_has_left_nothing_of_is_removed(fakes: Fakes) -> None:
    a_drop(collection="texts").put_into(fakes.objects)
    one = a_pass(fakes, "docs", "notes")

    done = one.upload(folded(one, one.upload()))

    assert published(fakes).collections.keys() == {"docs", "notes"}
    assert published(fakes).dropped.keys() == {"texts"}
    assert done.published


def test_a_pass_that_changes_nothing_keeps_the_base(fakes: Fakes) -> None:
    before = published(fakes).snapshot_id
    for name in NAMES:
        a_delta({"a": [9, 9]}, collection=name, at=NOW - 500).put_into(fakes.objects)
    one = Pass(fakes).up_to_upload()

    done = one.upload(folded(one, one.upload()))
    one.clean_up(done)

    assert not done.published
    assert published(fakes).snapshot_id == before
    assert fakes.objects.keys("delta/") == set()


def test_folds_for_which_no_function_is_left_wait_for_a_later_pass(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chromadb_compaction.fold.distribution.MOST_ITEMS", 1)
    one = a_pass(fakes)

    done = one.upload(folded(one, one.upload()))
    one.clean_up(done)

    assert (done.deltas_merged, done.deltas_left, done.too_large) == (1, 2, [])
    assert len(fakes.objects.keys("delta/")) == 2


def test_a_fold_reads_only_the_collections_and_runs_of_its_item(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    right: Callable[..., list[FoldedDirectory]] = FoldRounds.fold

    def watched(*arguments: object, **options: object) -> list[FoldedDirectory]:
        folded = right(*arguments, **options)
        seen.extend(each.result.collection for each in folded)
        return folded

    monkeypatch.setattr(FoldRounds, "fold", watched)
    one = a_pass(fakes)
    planned = one.upload()
    shutil.rmtree(fakes.settings.chromadb_cache_dir)  # that of another function is empty
    fakes.objects.calls.clear()
    one.fold(planned.folds[0])

    name = planned.folds[0].collection
    assert seen == [name]
    downloaded = [key for call, key in fakes.objects.calls if call == "get_range" and key.startswith("snapshot/")]
    assert downloaded
    assert all(f"/{name}/" in key for key in downloaded)


def test_download_snapshot_copies_only_what_upload_snapshot_folds(fakes: Fakes) -> None:
    shutil.rmtree(fakes.settings.chromadb_cache_dir)
    fakes.objects.calls.clear()
    one = a_pass(fakes)

    planned = one.upload()

    elsewhere = {item.collection for item in planned.folds}
    downloaded = {key.split("/")[2] for call, key in fakes.objects.calls if call == "get_range" and "snapshot/" in key}
    assert downloaded.isdisjoint(elsewhere)


@pytest.fixture
def in_rounds(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Return the bucket, in which a function folds two collections, one after the other."""
    for module in (upload_snapshot, download_snapshot):
        monkeypatch.setattr(module, "limits_of", lambda _services: FoldLimits(2.8 * FOLD_SECONDS, float("inf")))
    monkeypatch.setattr(fold_partitions, "limits_of", lambda _services: FoldLimits(2.8 * FOLD_SECONDS, 0))
    return fakes


def test_a_function_uploads_and_removes_a_directory_before_it_downloads_the_next(in_rounds: Fakes) -> None:
    found: list[list[str]] = []
    right = base.take_copies

    def watched(*arguments: Any) -> object:
        copies = right(*arguments)
        files = Path(in_rounds.settings.chromadb_cache_dir).rglob("ledger.parquet")
        found.append([path.parent.parent.name for path in files])
        return copies

    one = a_pass(in_rounds)
    planned = one.upload()
    shutil.rmtree(in_rounds.settings.chromadb_cache_dir)  # that of another function is empty
    in_rounds.objects.calls.clear()
    with patch.object(collections, "take_copies", watched):
        results = folded(one, planned)
    assert in_rounds.objects.calls.count(("get_range", str(one.runs[0].run))) == 1
    one.clean_up(one.upload(results))

    assert [item.folds for item in results] == [2]
    assert [len(each) for each in found] == [1, 1]
    assert {name: each.records for name, each in published(in_rounds).collections.items()} == dict.fromkeys(NAMES, 3)


@pytest.mark.parametrize("error", [DiskFullError("no space"), OutOfTimeError("no time")])
def test_what_was_uploaded_stays_if_a_later_fold_does_not_fit(in_rounds: Fakes, error: SnapshotTooLargeError) -> None:
    one = a_pass(in_rounds)
    planned = one.upload()
    first = [workers.run_folds]

    def run_folds(requests: Sequence[FoldRequest], **options: Any) -> object:
        return first.pop()(requests, **options) if first else [error for _ in requests]

    with patch.object(collections, "run_folds", run_folds):
        results = folded(one, planned)

    done = one.upload(results)
    one.clean_up(done)

    assert [(item.folds, item.left) for item in results] == [(1, 1)]
    assert (done.deltas_merged, done.deltas_left) == (2, 1)
    assert sorted(each.records for each in published(in_rounds).collections.values()) == [2, 3, 3]
    assert len(read_attempts(in_rounds.objects)) == isinstance(error, DiskFullError)


def test_a_download_that_the_disk_cannot_hold_leaves_the_other_folds(in_rounds: Fakes) -> None:
    one = a_pass(in_rounds)
    planned = one.upload()
    right = base.take_copies
    full = [DiskFullError("no space")]

    def take_copies(*arguments: Any) -> object:
        if full:
            raise full.pop()
        return right(*arguments)

    with patch.object(collections, "take_copies", take_copies):
        results = folded(one, planned)
    done = one.upload(results)

    assert [(item.folds, item.left) for item in results] == [(1, 1)]
    assert (len(done.too_large), done.deltas_merged) == (1, 2)
