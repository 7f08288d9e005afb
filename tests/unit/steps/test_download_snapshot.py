"""DownloadSnapshot: a verified copy of what the pass touches, and the shape that every delta must fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from chromadb_compaction.errors import LockLostError, SnapshotConflictError, SnapshotCorruptError, SnapshotTooLargeError
from chromadb_compaction.layout import shapes_key
from chromadb_compaction.messages import SHAPES, CollectionShape
from tests.builders import NOW, BuiltDelta, a_delta, a_jsonl_delta
from tests.fakes.cloud import EXECUTION, Cloud, a_cloud
from tests.passes import Pass, compact


class DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return a_cloud(chromadb_cache_dir=tmp_path / "cache")


def a_pass(cloud: Cloud, *deltas: BuiltDelta) -> Pass:
    for delta in deltas:
        delta.put_into(cloud.objects)
    one = Pass(cloud, EXECUTION + "-a")
    one.find()
    cloud.objects.calls.clear()
    return one


def shape(
    dimension: int | None, *, space: str = "l2", function: str | None = None, records: int = 0
) -> CollectionShape:
    return CollectionShape.model_validate(
        {
            "collection": "docs",
            "dimension": dimension,
            "space": space,
            "embedding_function": function,
            "records": records,
        }
    )


def downloads(cloud: Cloud) -> set[str]:
    return {key.rpartition("/")[2] for call, key in cloud.objects.calls if call == "download"}


def forget_copies(cloud: Cloud) -> None:
    """Leave the cache as a fresh process on another machine would find it."""
    Path(cloud.settings.chromadb_cache_dir).rename(cloud.settings.chromadb_cache_dir + "-forgotten")


def test_a_new_collection_takes_the_shape_of_its_oldest_upsert(cloud: Cloud) -> None:
    header = {"format": 1, "space": "cosine", "embedding_function": "wordllama"}
    one = a_pass(
        cloud,
        a_delta({"b": [1, 0, 0]}, at=NOW + 2),
        a_delta({"a": [1, 0]}, at=NOW + 1, header=header),
        a_delta(deletes=["x"], at=NOW),
    )

    assert one.download().collections == [shape(2, space="cosine", function="wordllama")]


def test_json_lines_have_a_shape_too(cloud: Cloud) -> None:
    one = a_pass(cloud, a_jsonl_delta([{"id": "a", "embedding": [1, 0, 0]}]))

    assert one.download().collections == [shape(3)]


def test_a_bad_delta_has_no_say_in_the_shape(cloud: Cloud) -> None:
    one = a_pass(
        cloud,
        a_delta({"a": [float("nan"), 0]}, at=NOW),
        a_delta({"a": [3e38, 3e38]}, at=NOW + 1, header={"format": 1, "space": "cosine"}),
        a_delta({"a": [1, 0, 0]}, at=NOW + 2),
    )

    assert one.download().collections == [shape(3)]


def test_a_delta_that_changed_since_the_listing_has_no_say_in_the_shape(cloud: Cloud) -> None:
    changed = a_delta({"a": [1, 0]}, at=NOW)
    one = a_pass(cloud, changed, a_delta({"a": [1, 0, 0]}, at=NOW + 1))
    cloud.objects.put(changed.key, a_delta({"a": [1, 0, 0, 0]}).body)

    assert one.download().collections == [shape(3)]


def test_a_collection_that_only_saw_deletes_has_no_dimension(cloud: Cloud) -> None:
    assert a_pass(cloud, a_delta(deletes=["a"])).download().collections == [shape(None)]


def test_the_first_upsert_after_deletes_gives_the_shape(cloud: Cloud) -> None:
    compact(cloud, a_delta(deletes=["a"]))

    one = a_pass(cloud, a_delta({"b": [1, 0]}, header={"format": 1, "space": "ip"}))

    assert one.download().collections == [shape(2, space="ip")]


def test_an_existing_collection_keeps_its_shape_and_no_delta_is_read_for_it(cloud: Cloud) -> None:
    compact(cloud, a_delta({"a": [1, 0]}, header={"format": 1, "space": "cosine"}))
    one = a_pass(cloud, a_delta({"b": [1, 0, 0]}, at=NOW + 1, header={"format": 1, "space": "ip"}))

    assert one.download().collections == [shape(2, space="cosine", records=1)]
    assert not any(key.startswith("delta/") for _, key in cloud.objects.calls)


def test_the_shapes_stand_where_merge_batch_reads_them(cloud: Cloud) -> None:
    one = a_pass(cloud, a_delta({"a": [1, 0]}))

    answer = one.download()

    assert SHAPES.validate_json(cloud.objects.get(shapes_key(one.execution, 1)).body) == answer.collections


def test_the_copy_of_the_last_publication_is_still_here(cloud: Cloud) -> None:
    compact(cloud, a_delta({"a": [1, 0]}))
    one = a_pass(cloud, a_delta({"b": [0, 1]}, at=NOW + 1))

    answer = one.download()

    assert (answer.cached, answer.bytes) == (True, 0)
    assert downloads(cloud) == set()


def test_a_fresh_process_downloads_the_collections_that_are_touched_and_no_others(cloud: Cloud) -> None:
    compact(cloud, a_delta({"a": [1, 0]}), a_delta({"a": [1]}, collection="others"))
    forget_copies(cloud)
    one = a_pass(cloud, a_delta({"b": [0, 1]}, at=NOW + 1))

    answer = one.download()

    assert not answer.cached
    assert answer.bytes > 0
    assert {"chroma.sqlite3", "ledger.parquet", "data_level0.bin"} <= downloads(cloud)
    assert not any("/others/" in key for _, key in cloud.objects.calls)


def test_a_retry_finds_what_the_first_run_downloaded(cloud: Cloud) -> None:
    compact(cloud, a_delta({"a": [1, 0]}))
    forget_copies(cloud)
    one = a_pass(cloud, a_delta({"b": [0, 1]}, at=NOW + 1))
    first = one.download()

    assert one.download().collections == first.collections
    assert one.download().cached


@pytest.mark.parametrize("damage", ["missing", "shortened", "altered"])
def test_a_damaged_file_is_named_with_the_way_back(cloud: Cloud, damage: str) -> None:
    first = compact(cloud, a_delta({"a": [1, 0]}))
    compact(cloud, a_delta({"b": [1, 0]}, at=NOW + 1))
    forget_copies(cloud)
    victim = max(key for key in cloud.objects.keys("snapshot/") if key.endswith("chroma.sqlite3"))
    body = cloud.objects.get(victim).body
    cloud.objects.delete([victim])
    if damage != "missing":
        cloud.objects.put(victim, body[:-1] if damage == "shortened" else body[:-1] + b"\xff")
    one = a_pass(cloud, a_delta({"c": [1, 0]}, at=NOW + 2))

    with pytest.raises(SnapshotCorruptError, match=f"{victim} .*snapshots rollback {first.snapshot_id}"):
        one.download()


def test_an_ancestor_that_shares_the_damaged_file_is_no_way_back(cloud: Cloud) -> None:
    compact(cloud, a_delta({"a": [1, 0]}))
    compact(cloud, a_delta({"b": [1, 0]}, at=NOW + 1, collection="others"))
    forget_copies(cloud)
    victim = next(key for key in cloud.objects.keys("snapshot/") if key.endswith("docs/chroma.sqlite3"))
    cloud.objects.delete([victim])
    one = a_pass(cloud, a_delta({"c": [1, 0]}, at=NOW + 2))

    with pytest.raises(SnapshotCorruptError, match="no ancestor of this snapshot does without it"):
        one.download()


def test_a_base_that_is_no_longer_published_stops_the_pass_early(cloud: Cloud) -> None:
    one = a_pass(cloud, a_delta({"a": [1, 0]}))
    compact(cloud, a_delta({"b": [1, 0]}, at=NOW + 1))
    one.take_lease()

    with pytest.raises(SnapshotConflictError, match="run again"):
        one.download()


def test_a_disk_that_is_too_small_is_said_before_anything_is_transferred(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(cloud, a_delta({"a": [1, 0]}))
    forget_copies(cloud)
    one = a_pass(cloud, a_delta({"b": [0, 1]}, at=NOW + 1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(total=9, used=8, free=1))

    with pytest.raises(SnapshotTooLargeError, match="storage"):
        one.download()
    assert downloads(cloud) == set()


def test_without_the_lease_nothing_is_done(cloud: Cloud) -> None:
    one = a_pass(cloud, a_delta({"a": [1, 0]}))
    cloud.leases.release(cloud.settings.lock_id, one.execution)

    with pytest.raises(LockLostError):
        one.download()
    assert cloud.objects.calls == []
