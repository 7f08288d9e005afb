"""DownloadSnapshot: a verified copy of the pass's collections, and the shape that their deltas must fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from chromadb_compaction.deltas.drops import DROP_BYTES
from chromadb_compaction.errors import LockLostError, SnapshotConflictError, SnapshotCorruptError, SnapshotTooLargeError
from chromadb_compaction.layout import compacted_key, shapes_key
from chromadb_compaction.messages import CollectionShape
from chromadb_compaction.rows.shapes import SHAPES, StoredShape
from tests.builders import NOW, BuiltDelta, a_delta, a_drop, a_jsonl_delta
from tests.fakes.services import EXECUTION, Fakes
from tests.passes import Pass, compact


class DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


def a_pass(fakes: Fakes, *deltas: BuiltDelta) -> Pass:
    for delta in deltas:
        delta.put_into(fakes.objects)
    one = Pass(fakes, EXECUTION + "-a")
    one.find()
    fakes.objects.calls.clear()
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


def downloads(fakes: Fakes) -> set[str]:
    return {key.rpartition("/")[2] for call, key in fakes.objects.calls if call == "download"}


def lose_copies(fakes: Fakes) -> None:
    """Remove the cache, as if the next task ran on another machine."""
    Path(fakes.settings.chromadb_cache_dir).rename(fakes.settings.chromadb_cache_dir + "-lost")


def test_a_new_collection_takes_the_shape_of_its_oldest_upsert(fakes: Fakes) -> None:
    header = {"format": 1, "space": "cosine", "embedding_function": "wordllama"}
    one = a_pass(
        fakes,
        a_delta({"b": [1, 0, 0]}, at=NOW + 2),
        a_delta({"a": [1, 0]}, at=NOW + 1, header=header),
        a_delta(deletes=["x"], at=NOW),
    )

    assert one.download().collections == [shape(2, space="cosine", function="wordllama")]


def test_a_json_lines_delta_gives_a_shape(fakes: Fakes) -> None:
    one = a_pass(fakes, a_jsonl_delta([{"id": "a", "embedding": [1, 0, 0]}]))

    assert one.download().collections == [shape(3)]


def test_a_corrupt_delta_does_not_decide_the_shape(fakes: Fakes) -> None:
    one = a_pass(
        fakes,
        a_delta({"a": [float("nan"), 0]}, at=NOW),
        a_delta({"a": [3e38, 3e38]}, at=NOW + 1, header={"format": 1, "space": "cosine"}),
        a_delta({"a": [1, 0, 0]}, at=NOW + 2),
    )

    assert one.download().collections == [shape(3)]


def test_a_delta_rewritten_since_the_listing_does_not_decide_the_shape(fakes: Fakes) -> None:
    changed = a_delta({"a": [1, 0]}, at=NOW)
    one = a_pass(fakes, changed, a_delta({"a": [1, 0, 0]}, at=NOW + 1))
    fakes.objects.put(changed.key, a_delta({"a": [1, 0, 0, 0]}).body)

    assert one.download().collections == [shape(3)]


def test_a_delta_whose_key_was_merged_with_other_content_does_not_decide_the_shape(fakes: Fakes) -> None:
    changed = a_delta({"a": [1, 0]}, at=NOW)
    fakes.objects.put(compacted_key(changed.key), a_delta(deletes={"a"}, at=NOW).body)
    one = a_pass(fakes, changed, a_delta({"a": [1, 0, 0]}, at=NOW + 1))

    assert one.download().collections == [shape(3)]


def test_a_collection_with_only_deletes_has_no_dimension(fakes: Fakes) -> None:
    assert a_pass(fakes, a_delta(deletes=["a"])).download().collections == [shape(None)]


def test_the_first_upsert_after_deletes_gives_the_shape(fakes: Fakes) -> None:
    compact(fakes, a_delta(deletes=["a"]))

    one = a_pass(fakes, a_delta({"b": [1, 0]}, header={"format": 1, "space": "ip"}))

    assert one.download().collections == [shape(2, space="ip")]


def test_an_existing_collection_keeps_its_shape_and_only_deltas_that_may_drop_it_are_read(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, header={"format": 1, "space": "cosine"}))
    small = a_delta({"b": [1, 0]}, at=NOW + 1, header={"format": 1, "space": "ip"})
    large = a_jsonl_delta([{"id": f"{row}", "embedding": [row / 7, row]} for row in range(100)], at=NOW + 2)
    tiny = a_jsonl_delta([{"id": "c", "embedding": [1, 0]}], at=NOW + 3)
    assert max(len(small.body), len(large.body)) > DROP_BYTES >= len(tiny.body)
    one = a_pass(fakes, small, large, tiny)

    assert one.download().collections == [shape(2, space="cosine", records=1)]
    assert {key for _, key in fakes.objects.calls if key.startswith("delta/")} == {tiny.key}


def test_a_drop_whose_key_was_merged_with_other_content_does_not_free_the_shape(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    drop = a_drop(at=NOW + 1)
    fakes.objects.put(compacted_key(drop.key), a_jsonl_delta([{"id": "a", "op": "delete"}], at=NOW + 1).body)

    assert a_pass(fakes, drop).download().collections == [shape(2, records=1)]


def test_the_shapes_are_written_where_merge_batch_reads_them(fakes: Fakes) -> None:
    one = a_pass(fakes, a_delta({"a": [1, 0]}))

    answer = one.download()

    assert SHAPES.validate_json(fakes.objects.get(shapes_key(one.execution, 1)).body) == [
        StoredShape(**each.model_dump()) for each in answer.collections
    ]


def test_the_copy_of_the_last_published_snapshot_is_cached(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    one = a_pass(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))

    answer = one.download()

    assert (answer.cached, answer.bytes) == (True, 0)
    assert downloads(fakes) == set()


@pytest.mark.usefixtures("unpacked")
def test_a_new_process_downloads_only_the_collections_of_the_pass(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}), a_delta({"a": [1]}, collection="others"))
    lose_copies(fakes)
    one = a_pass(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))

    answer = one.download()

    assert not answer.cached
    assert answer.bytes > 0
    assert {"chroma.sqlite3", "ledger.parquet", "data_level0.bin"} <= downloads(fakes)
    assert not any("/others/" in key for _, key in fakes.objects.calls)


def test_a_retry_uses_the_download_of_the_first_run(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    lose_copies(fakes)
    one = a_pass(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))
    first = one.download()

    assert one.download().collections == first.collections
    assert one.download().cached


@pytest.mark.parametrize("damage", ["missing", "shortened", "altered"])
def test_a_damaged_file_is_named_with_the_rollback_command(fakes: Fakes, damage: str) -> None:
    first = compact(fakes, a_delta({"a": [1, 0]}))
    compact(fakes, a_delta({"b": [1, 0]}, at=NOW + 1))
    lose_copies(fakes)
    damaged = max(key for key in fakes.objects.keys("snapshot/") if key.endswith("files.pack"))
    body = fakes.objects.get(damaged).body
    fakes.objects.delete([damaged])
    if damage != "missing":
        fakes.objects.put(damaged, body[:-1] if damage == "shortened" else body[:-1] + b"\xff")
    one = a_pass(fakes, a_delta({"c": [1, 0]}, at=NOW + 2))

    with pytest.raises(SnapshotCorruptError, match=f"{damaged} .*snapshots rollback {first.snapshot_id}"):
        one.download()


def test_an_ancestor_that_shares_the_damaged_file_is_not_suggested(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    compact(fakes, a_delta({"b": [1, 0]}, at=NOW + 1, collection="others"))
    lose_copies(fakes)
    damaged = next(key for key in fakes.objects.keys("snapshot/") if key.endswith("docs/files.pack"))
    fakes.objects.delete([damaged])
    one = a_pass(fakes, a_delta({"c": [1, 0]}, at=NOW + 2))

    with pytest.raises(SnapshotCorruptError, match="no ancestor of this snapshot does without it"):
        one.download()


def test_a_base_that_is_no_longer_published_stops_the_pass(fakes: Fakes) -> None:
    one = a_pass(fakes, a_delta({"a": [1, 0]}))
    compact(fakes, a_delta({"b": [1, 0]}, at=NOW + 1))
    one.take_lease()

    with pytest.raises(SnapshotConflictError, match="run again"):
        one.download()


def test_a_disk_that_is_too_small_is_reported_before_any_transfer(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    lose_copies(fakes)
    one = a_pass(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(total=9, used=8, free=1))

    with pytest.raises(SnapshotTooLargeError, match="storage"):
        one.download()
    assert downloads(fakes) == set()


def test_without_the_lease_nothing_is_done(fakes: Fakes) -> None:
    one = a_pass(fakes, a_delta({"a": [1, 0]}))
    fakes.leases.release(fakes.settings.lock_id, one.execution)

    with pytest.raises(LockLostError):
        one.download()
    assert fakes.objects.calls == []
