"""Passes over collections that are divided: what is folded, published, counted and kept."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from chromadb_compaction.chroma.client import SQLITE_FILE, Collection, open_collection
from chromadb_compaction.errors import SnapshotTooLargeError, VerificationError
from chromadb_compaction.fold import collections, requests, reshaping
from chromadb_compaction.fold.cost import FOLD_SECONDS, FoldLimits
from chromadb_compaction.fold.reshaping import Reshaped, Source
from chromadb_compaction.layout import LEDGER_FILE, partition_folder
from chromadb_compaction.manifest import CollectionSnapshot, Manifest, PartitionSnapshot
from chromadb_compaction.rows.id_ranges import IdRange
from chromadb_compaction.rows.ledger import decode_ledger, live_sum
from chromadb_compaction.snapshots.packs import read_file
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.steps import download_snapshot, fold_partitions, upload_snapshot
from tests.builders import NOW, a_delta, a_drop
from tests.fakes.services import Fakes, new_fakes
from tests.passes import Pass, compact


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    """Return a bucket with a collection of thirty records in three directories."""
    fakes = new_fakes(chromadb_cache_dir=tmp_path / "cache", partition_split_records=12, partition_target_records=10)
    compact(fakes, a_delta(rows(0, 30), at=NOW - 500))
    fakes.objects.calls.clear()
    return fakes


def rows(first: int, end: int, value: float = 0) -> dict[str, list[float]]:
    return {f"row-{number:02d}": [number, value] for number in range(first, end)}


def manifest_of(fakes: Fakes) -> Manifest:
    pointer = read_pointer(fakes.services)
    assert pointer is not None
    return read_manifest(fakes.services, pointer.pointer)


def docs(fakes: Fakes) -> CollectionSnapshot:
    return manifest_of(fakes).collections["docs"]


def content(fakes: Fakes) -> Mapping[str, dict[str, list[float]]]:
    """Return the records of each directory as plain ChromaDB reads them, by its first id, and check its ledger."""
    return {each.first: _records(fakes, each) for each in docs(fakes).directories}


@contextmanager
def open_copy(fakes: Fakes, each: PartitionSnapshot) -> Iterator[Collection]:
    with TemporaryDirectory() as directory:
        for path, file in each.files.items():
            target = Path(directory) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(read_file(fakes.objects, file))
        with open_collection(Path(directory), "docs") as collection:
            yield collection


def _records(fakes: Fakes, each: PartitionSnapshot) -> dict[str, list[float]]:
    ledger = decode_ledger(read_file(fakes.objects, each.files[LEDGER_FILE]))
    assert live_sum(ledger) == each.conservation.next
    if SQLITE_FILE not in each.files:
        return {}
    with open_copy(fakes, each) as collection:
        found = collection.get(include=["embeddings"])
        embeddings = found["embeddings"]
        assert embeddings is not None
        return {name: [float(x) for x in row] for name, row in zip(found["ids"], embeddings, strict=True)}


def downloaded(fakes: Fakes) -> set[str]:
    """Return the folders of the base from which files were downloaded."""
    keys = [key for call, key in fakes.objects.calls if call == "download" and key.startswith("snapshot/")]
    return {key.split("/")[3] for key in keys}


def test_a_collection_that_arrives_large_is_divided(fakes: Fakes) -> None:
    described = docs(fakes)

    assert {first: sorted(found) for first, found in content(fakes).items()} == {
        "": sorted(rows(0, 10)),
        "row-10": sorted(rows(10, 20)),
        "row-20": sorted(rows(20, 30)),
    }
    assert (described.records, described.dimension, described.conservation.holds()) == (30, 2, True)
    assert {path.split("/")[0] for path in described.all_files} == {
        partition_folder(first) for first in ("", "row-10", "row-20")
    }


@pytest.mark.usefixtures("unpacked")
def test_a_pass_folds_only_the_directories_that_its_rows_touch(fakes: Fakes) -> None:
    before = docs(fakes)
    shutil.rmtree(fakes.settings.chromadb_cache_dir)

    done = compact(fakes, a_delta({"row-15": [5, 5], "row-155": [5, 6]}, {"row-17"}))

    after = docs(fakes)
    assert downloaded(fakes) == {partition_folder("row-10")}
    assert [one.files == other.files for one, other in zip(before.directories, after.directories, strict=True)] == [
        True,
        False,
        True,
    ]
    assert content(fakes)["row-10"] == rows(10, 17) | rows(18, 20) | {"row-15": [5, 5], "row-155": [5, 6]}
    assert after.conservation.base == before.conservation.next
    counts = done.collections[0]
    assert (counts.added, counts.replaced, counts.deleted, counts.records) == (1, 1, 1, 30)


def test_the_next_pass_uses_every_copy_without_a_transfer(fakes: Fakes) -> None:
    compact(fakes, a_delta({"row-15": [5, 5]}, at=NOW - 400))
    fakes.objects.calls.clear()

    compact(fakes, a_delta({"row-00": [0, 5], "row-15": [5, 6], "row-28": [8, 6]}))

    assert downloaded(fakes) == set()


def test_rows_that_are_older_change_no_directory(fakes: Fakes) -> None:
    before = manifest_of(fakes).snapshot_id

    done = compact(fakes, a_delta({"row-15": [9, 9]}, at=NOW - 900))

    assert (done.published, manifest_of(fakes).snapshot_id) == (False, before)
    assert [(each.older, each.records) for each in done.collections] == [(1, 30)]


def test_a_drop_leaves_the_records_that_are_newer_and_no_empty_directory(fakes: Fakes) -> None:
    compact(fakes, a_delta({"row-19": [9, 9]}, at=NOW - 100))

    compact(fakes, a_drop(at=NOW - 300))

    described = docs(fakes)
    assert content(fakes) == {"": {"row-19": [9, 9]}}
    assert (described.partitions, described.records, described.conservation.holds()) == ([], 1, True)


def test_a_drop_of_all_frees_the_shape(fakes: Fakes) -> None:
    compact(fakes, a_drop(at=NOW - 100))
    assert "docs" not in manifest_of(fakes).collections

    compact(fakes, a_delta({"a": [1, 2, 3]}))

    assert (docs(fakes).dimension, content(fakes)) == (3, {"": {"a": [1, 2, 3]}})


def test_settings_reach_every_directory(fakes: Fakes) -> None:
    compact(fakes, a_delta({}, header={"format": 2, "collection": {"metadata": {"owner": "me"}}}))

    for each in docs(fakes).directories:
        with open_copy(fakes, each) as collection:
            assert collection.metadata == {"owner": "me"}


@pytest.mark.usefixtures("unpacked")
def test_a_directory_that_grows_too_large_is_divided(fakes: Fakes) -> None:
    compact(fakes, a_delta({"row-29": [0, 0]}, {"row-20"}, at=NOW - 400))
    before = docs(fakes)
    shutil.rmtree(fakes.settings.chromadb_cache_dir)
    fakes.objects.calls.clear()

    done = compact(fakes, a_delta(rows(29, 36, 1), {"row-21"}))

    assert downloaded(fakes) == {partition_folder("row-20")}
    found = content(fakes)
    assert [found[first] for first in ("row-20", "row-29")] == [rows(22, 29), rows(29, 36, 1)]
    after = docs(fakes)
    assert after.directories[0].files == before.directories[0].files
    assert (after.conservation.base, after.tombstones) == (before.conservation.next, 2)
    assert [(each.added, each.replaced, each.deleted, each.records) for each in done.collections] == [(6, 1, 1, 34)]


def test_small_neighbours_become_one_directory(fakes: Fakes) -> None:
    compact(fakes, a_delta({}, rows(1, 10) | rows(11, 20), at=NOW - 400))

    compact(fakes, a_delta({"row-005": [0, 5]}, at=NOW - 300))

    assert content(fakes) == {"": {"row-00": [0, 0], "row-005": [0, 5], "row-10": [10, 0]}, "row-20": rows(20, 30)}
    assert (docs(fakes).tombstones, docs(fakes).conservation.holds()) == (18, True)


def test_few_records_are_one_directory_again(fakes: Fakes) -> None:
    compact(fakes, a_delta({}, rows(1, 30), at=NOW - 400))

    compact(fakes, a_delta({"row-00": [0, 5]}, at=NOW - 300))
    compact(fakes, a_delta({"row-05": [5, 5]}, at=NOW - 450))

    assert content(fakes) == {"": {"row-00": [0, 5]}}
    assert (docs(fakes).partitions, docs(fakes).tombstones) == ([], 29)


def test_a_row_that_a_border_has_lost_is_not_published(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    before = docs(fakes)
    right = reshaping.reshape

    def wrong(sources: Sequence[Source], ids: IdRange, **options: Any) -> Reshaped:
        return right(sources, ids._replace(first=f"{ids.first}\0"), **options)

    monkeypatch.setattr(requests, "reshape", wrong)

    with pytest.raises(VerificationError, match="begun with exactly the rows of the base"):
        compact(fakes, a_delta(rows(30, 40)))
    assert docs(fakes) == before


@pytest.fixture
def divided(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Return the bucket, in which a function does one fold at a time from now on."""
    for module in (upload_snapshot, download_snapshot):
        monkeypatch.setattr(module, "limits_of", lambda _services: FoldLimits(2 * FOLD_SECONDS, float("inf")))
    return fakes


def test_directories_of_one_collection_are_folded_by_several_functions(divided: Fakes) -> None:
    changed = {name: [7.0, 7.0] for name in ("row-00", "row-15", "row-28")}
    a_delta(changed).put_into(divided.objects)
    one = Pass(divided).up_to_upload()

    planned = one.upload()
    done = one.upload([one.fold(item) for item in planned.folds])
    one.clean_up(done)

    assert [item.folds for item in planned.folds] == [1, 1, 1]
    assert {name: row for found in content(divided).values() for name, row in found.items()} == rows(0, 30) | changed
    assert [(each.collection, each.replaced, each.records) for each in done.collections] == [("docs", 3, 30)]


def test_a_collection_of_which_one_fold_does_not_fit_stays_as_it_was(
    divided: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = docs(divided)
    a_delta({"row-00": [7, 7], "row-15": [7, 7]}).put_into(divided.objects)
    a_delta({"x": [1]}, collection="other").put_into(divided.objects)
    one = Pass(divided).up_to_upload()
    planned = one.upload()
    *others, last = sorted(planned.folds, key=lambda item: item.collection == "docs")
    results = [one.fold(item) for item in others]
    with monkeypatch.context() as patched:
        too_large = {"docs": SnapshotTooLargeError("docs: too large")}
        patched.setattr(collections, "folds_too_large", lambda _sizes, _settings: too_large)
        results.append(one.fold(last))

    done = one.upload(results)
    one.clean_up(done)

    assert (done.too_large, done.deltas_left, done.deltas_merged) == (["docs"], 1, 1)
    assert docs(divided) == before
    assert "other" in manifest_of(divided).collections
    assert len(divided.objects.keys("delta/docs/")) == 1


def test_one_directory_is_divided_by_several_functions(divided: Fakes) -> None:
    a_delta(rows(30, 40)).put_into(divided.objects)
    one = Pass(divided).up_to_upload()

    planned = one.upload()
    one.clean_up(one.upload([one.fold(item) for item in planned.folds]))

    assert [item.folds for item in planned.folds] == [1, 1]
    assert content(divided) == {
        first: rows(number, number + 10) for first, number in [("", 0), ("row-10", 10), ("row-20", 20), ("row-30", 30)]
    }


def test_a_directory_that_is_divided_in_rounds_is_downloaded_once(
    divided: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chromadb_compaction.fold.distribution.MOST_ITEMS", 1)
    monkeypatch.setattr(fold_partitions, "limits_of", lambda _services: FoldLimits(2 * FOLD_SECONDS, 0))
    a_delta(rows(30, 40)).put_into(divided.objects)
    one = Pass(divided).up_to_upload()
    planned = one.upload()
    shutil.rmtree(divided.settings.chromadb_cache_dir)  # that of another function is empty
    divided.objects.calls.clear()

    results = [one.fold(item) for item in planned.folds]
    read = Counter(key for call, key in divided.objects.calls if call in {"download", "get_range"})
    one.clean_up(one.upload(results))

    assert [item.folds for item in planned.folds] == [2]
    assert {count for key, count in read.items() if key.startswith("snapshot/")} == {1}
    assert content(divided)["row-30"] == rows(30, 40)


def test_folds_that_leave_out_a_directory_are_not_published(divided: Fakes) -> None:
    a_delta({"row-00": [7, 7], "row-15": [7, 7], "row-28": [7, 7]}).put_into(divided.objects)
    one = Pass(divided).up_to_upload()
    planned = one.upload()

    with pytest.raises(VerificationError, match="not those of the plan: docs"):
        one.upload([one.fold(item) for item in planned.folds[1:]])
