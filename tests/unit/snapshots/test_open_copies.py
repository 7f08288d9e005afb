"""Open copies of partitioned collections: what is downloaded, shared and removed, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromadb_compaction.errors import DiskFullError, SnapshotTooLargeError
from chromadb_compaction.layout import partition_folder
from chromadb_compaction.manifest import Conservation, PartitionSnapshot, StoredFile
from chromadb_compaction.snapshots.reader import SnapshotReader
from chromadb_compaction.snapshots.space import RECORD_BYTES, RemovableCopy, Space, choose_removals, space_of
from tests.builders import NOW, a_delta
from tests.fakes.published import ZERO
from tests.fakes.services import Fakes
from tests.partitioned import PartitionedBucket
from tests.passes import compact

FIRSTS = ["", "m"]


@pytest.fixture
def bucket(tmp_path: Path) -> PartitionedBucket:
    made = PartitionedBucket(tmp_path, FIRSTS)
    made.compact(a_delta({"a": [1, 0], "m": [0, 1]}, at=NOW))
    return made


def read(fakes: Fakes, reader: SnapshotReader) -> list[str]:
    with reader.reading(fakes.services, "docs") as readable:
        assert readable.collection is not None
        return readable.collection.get(include=[])["ids"]


def copies(fakes: Fakes) -> int:
    return sum(path.is_dir() for path in (Path(fakes.settings.chromadb_cache_dir) / "scratch").iterdir())


def test_a_partition_that_has_not_changed_stays_open_when_another_one_changes(
    bucket: PartitionedBucket, reader: SnapshotReader
) -> None:
    fakes = bucket.divided
    assert read(fakes, reader) == ["a", "m"]
    bucket.compact(a_delta({"z": [1, 1]}, at=NOW + 1))
    fakes.objects.calls.clear()

    assert read(fakes, reader) == ["a", "m", "z"]

    downloaded = {key for call, key in fakes.objects.calls if call == "download"}
    assert downloaded
    assert all(f"/{partition_folder('m')}/" in key for key in downloaded)
    assert copies(fakes) == len(FIRSTS)


def test_a_query_keeps_its_partitions_while_another_snapshot_is_opened(
    bucket: PartitionedBucket, reader: SnapshotReader
) -> None:
    fakes = bucket.divided
    with reader.reading(fakes.services, "docs") as before:
        bucket.compact(a_delta({"z": [1, 1]}, deletes={"a"}, at=NOW + 1))
        assert read(fakes, reader) == ["m", "z"]
        assert before.collection is not None
        assert before.collection.get(include=[])["ids"] == ["a", "m"]
    assert copies(fakes) == len(FIRSTS)

    reader.close()

    assert copies(fakes) == 0


def test_after_a_failed_download_the_open_partitions_are_still_used(
    bucket: PartitionedBucket, reader: SnapshotReader
) -> None:
    fakes = bucket.divided
    read(fakes, reader)
    bucket.compact(a_delta({"z": [1, 1]}, at=NOW + 1))

    def fail(call: str, key: str) -> None:
        if call == "download":
            raise RuntimeError(key)

    fakes.objects.before = fail
    with pytest.raises(RuntimeError):
        read(fakes, reader)
    fakes.objects.before = lambda _call, _key: None

    assert read(fakes, reader) == ["a", "m", "z"]
    assert copies(fakes) == len(FIRSTS)


def test_a_collection_too_large_for_memory_is_refused_before_its_download_and_others_are_served(
    fakes: Fakes, reader: SnapshotReader
) -> None:
    compact(fakes, a_delta({"a": [1, 0]}), a_delta({"b": [1, 0], "c": [1, 1]}, collection="others"))
    with reader.reading(fakes.services, "docs") as readable:
        described = readable.described
    one_record = space_of(described.directories).memory
    fakes.settings = fakes.settings.model_copy(update={"aws_lambda_function_memory_size": 250})
    fakes.objects.calls.clear()

    with (
        pytest.raises(SnapshotTooLargeError, match=r"others: its index may take .* bytes of memory"),
        reader.reading(fakes.services, "others"),
    ):
        pass
    assert one_record > RECORD_BYTES
    assert not [key for call, key in fakes.objects.calls if call == "download"]
    assert read(fakes, reader) == ["a"]


def copy(collection: str, disk: int = 0, memory: int = 0, *, idle: bool = True) -> RemovableCopy:
    return RemovableCopy(collection, Space(disk, memory), idle)


def test_only_as_many_copies_are_removed_as_needed_and_those_first_that_were_not_used_for_longest() -> None:
    copies = [copy("docs", 10, 10), copy("oldest", 5, 5), copy("newest", 5, 5)]

    assert choose_removals("docs", Space(3, 10), Space(3, 20), copies) == []
    assert choose_removals("docs", Space(4, 10), Space(3, 20), copies) == ["oldest"]
    assert choose_removals("docs", Space(0, 11), Space(3, 20), copies) == ["oldest"]
    assert choose_removals("docs", Space(14, 0), Space(3, 20), copies) == ["oldest", "newest", "docs"]


def test_what_would_not_fit_without_all_others_removes_none() -> None:
    copies = [copy("other", 5, 5), copy("used", 5, 5, idle=False)]

    with pytest.raises(DiskFullError, match=r"docs: .* 9 bytes of disk, 3 are free, and 5 more"):
        choose_removals("docs", Space(9, 0), Space(3, 20), copies)
    with pytest.raises(SnapshotTooLargeError, match=r"docs: .* 21 bytes of memory, and the function has 20"):
        choose_removals("docs", Space(0, 21), Space(3, 20), copies)


def test_the_memory_of_a_directory_is_that_of_its_index_with_deleted_entries() -> None:
    nothing = Conservation(base=ZERO, replaced=ZERO, deleted=ZERO, added=ZERO, next=ZERO)
    sizes = {"chroma.sqlite3": 1000, "ledger.parquet": 100, "a/data_level0.bin": 10, "a/link_lists.bin": 1}
    files = {path: StoredFile(key=path, bytes=size, sha256="a" * 64) for path, size in sizes.items()}
    directory = PartitionSnapshot(first="", records=2, tombstones=0, conservation=nothing, files=files)

    assert space_of([directory]) == Space(disk=1011, memory=11 + 2 * RECORD_BYTES)
