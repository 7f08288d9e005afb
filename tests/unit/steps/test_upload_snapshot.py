"""UploadSnapshot: fold, verify, upload what changed, publish with one conditional write."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from chromadb_compaction.chroma.client import CollectionSpec, open_collection
from chromadb_compaction.chroma.loader import ApiLoader, Loaded, Loader, Progress
from chromadb_compaction.deltas.outcomes import unpack_outcomes
from chromadb_compaction.errors import (
    LockLostError,
    PreconditionFailedError,
    SnapshotConflictError,
    SnapshotCorruptError,
    TransientStorageError,
)
from chromadb_compaction.fold import fold
from chromadb_compaction.layout import LEDGER_FILE, outcome_key, pointer_key, result_key, snapshot_of_key
from chromadb_compaction.manifest import Manifest, commit_id
from chromadb_compaction.messages import CollectionCounts
from chromadb_compaction.rows.ledger import FoldPlan
from chromadb_compaction.snapshots import pointer
from chromadb_compaction.snapshots.files import Wanted, download
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from tests.builders import NOW, BuiltDelta, a_delta
from tests.fakes.services import EXECUTION, Fakes, new_fakes
from tests.passes import Pass, compact

OWN, OTHER = EXECUTION + "-own", EXECUTION + "-other"


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    monkeypatch.setattr(pointer, "SWAP_PAUSE_SECONDS", 0.0)
    return new_fakes(chromadb_cache_dir=tmp_path / "cache")


class Record(NamedTuple):
    document: str | None
    metadata: dict[str, object] | None


def published(fakes: Fakes) -> Manifest:
    current = read_pointer(fakes.services)
    assert current is not None
    return read_manifest(fakes.services, current.pointer)


def contents(fakes: Fakes, parent: Path, name: str = "docs") -> dict[str, Record]:
    """Download the published collection and read it with ChromaDB."""
    manifest = published(fakes)
    directory = parent / manifest.snapshot_id
    download(fakes.services, manifest, [Wanted(name, manifest.collections[name].files, directory)])
    with open_collection(directory, name) as collection:
        got = collection.get()
    assert got["documents"] is not None
    assert got["metadatas"] is not None
    rows = zip(got["ids"], got["documents"], got["metadatas"], strict=True)
    return {row_id: Record(document, dict(metadata) if metadata else None) for row_id, document, metadata in rows}


def prepare(fakes: Fakes, *deltas: BuiltDelta, execution: str = OWN) -> Pass:
    for delta in deltas:
        delta.put_into(fakes.objects)
    return Pass(fakes, execution).up_to_upload()


DOWNLOADS = ("download", "get_range")


def uploads(fakes: Fakes) -> list[str]:
    """Return the uploaded keys of snapshots, without MergeBatch's runs."""
    return [key for call, key in fakes.objects.calls if call == "upload" and snapshot_of_key(key)]


def test_the_first_pass_publishes_the_first_snapshot(fakes: Fakes, tmp_path: Path) -> None:
    answer = prepare(fakes, a_delta({"a": [1, 0]}, documents={"a": "text"}, metadatas={"a": {"n": 1}})).upload()

    assert answer.published
    assert answer.collections == [
        CollectionCounts(collection="docs", added=1, replaced=0, deleted=0, unchanged=0, records=1, loader="bulk")
    ]
    assert contents(fakes, tmp_path) == {"a": Record("text", {"n": 1})}


def test_rows_that_are_older_than_what_is_there_are_counted_apart_from_unchanged_ones(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0], "b": [0, 1]}, at=NOW + 1))

    again = compact(fakes, a_delta({"a": [0, 1]}, at=NOW), a_delta({"b": [0, 1], "c": [1, 1]}, at=NOW + 2))

    (docs,) = again.collections
    assert (docs.added, docs.replaced, docs.unchanged, docs.older) == (1, 0, 1, 1)


class LoaderOfAnOlderRelease(ApiLoader):
    def apply(self, directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> Loaded:
        super().apply(directory, spec, plan, progress=progress)
        return Loaded({}, replaced_in_place=2)


def test_the_manifest_keeps_the_count_of_vectors_that_an_older_release_has_replaced_in_place(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def choose_loader(*_: object, replaced_in_place: int) -> Loader:
        counts.append(replaced_in_place)
        return LoaderOfAnOlderRelease()

    monkeypatch.setattr(fold, "choose_loader", choose_loader)
    for number in range(2):
        compact(fakes, a_delta({"a": [1, number]}, at=NOW + number))

    assert counts == [0, 2]
    assert published(fakes).collections["docs"].replaced_in_place == 2


def test_the_manifest_names_its_origin_and_its_content(fakes: Fakes) -> None:
    first = compact(fakes, a_delta({"a": [1, 0]}))
    one = prepare(fakes, a_delta({"b": [0, 1]}, deletes=["a"], at=NOW + 1), a_delta({"c": [9]}, at=NOW + 2))
    one.upload()

    manifest = published(fakes)

    assert manifest.parent == first.snapshot_id
    assert (manifest.execution, manifest.commit_id) == (OWN, commit_id(OWN, 1))
    assert (manifest.deltas_merged, manifest.deltas_quarantined) == (1, 1)
    docs = manifest.collections["docs"]
    assert (docs.dimension, docs.records, docs.tombstones) == (2, 1, 1)
    assert docs.conservation.holds()


def test_the_pointer_counts_every_swap(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    compact(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))

    current = read_pointer(fakes.services)

    assert current is not None
    assert current.pointer.sequence == 2
    assert current.pointer.snapshot_id.startswith("0000000002-")


def test_the_list_of_deltas_holds_the_outcome_of_each(fakes: Fakes) -> None:
    valid, corrupt = a_delta({"a": [1, 0]}), a_delta({"a": [1, 0, 0]}, at=NOW + 1)

    answer = prepare(fakes, valid, corrupt).upload()

    outcomes = unpack_outcomes(fakes.objects.get(answer.outcome).body)
    assert {outcome.key: outcome.status for outcome in outcomes} == {valid.key: "merged", corrupt.key: "quarantined"}


@pytest.mark.usefixtures("unpacked")
def test_a_file_that_did_not_change_keeps_its_object(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, documents={"a": "text"}))
    before = published(fakes).collections["docs"].files
    fakes.objects.calls.clear()

    # The same record again changes only its version in the ledger.
    answer = compact(fakes, a_delta({"a": [1, 0]}, documents={"a": "text"}, at=NOW + 1))

    after = published(fakes).collections["docs"].files
    assert [path for path in after if after[path] != before.get(path)] == [LEDGER_FILE]
    assert [key.rpartition("/")[2] for key in uploads(fakes)] == [LEDGER_FILE]
    assert answer.bytes_uploaded == after[LEDGER_FILE].bytes


def test_a_collection_without_deltas_is_kept_unchanged(fakes: Fakes) -> None:
    first = compact(fakes, a_delta({"a": [1, 0]}), a_delta({"x": [1]}, collection="others"))
    before = published(fakes).collections["others"]
    fakes.objects.calls.clear()

    compact(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))

    assert not any("/others/" in key for _, key in fakes.objects.calls)
    assert published(fakes).collections["others"] == before
    assert {snapshot_of_key(file.key) for file in before.files.values()} == {first.snapshot_id}


def test_the_next_pass_uses_every_copy_without_a_transfer(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}), a_delta({"x": [1]}, collection="others"))
    compact(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))
    fakes.objects.calls.clear()

    prepare(fakes, a_delta({"c": [1, 1]}, at=NOW + 2), a_delta({"y": [1]}, at=NOW + 2, collection="others")).upload()

    assert not any(
        call in ("download", "get_range") and key.startswith("snapshot/") for call, key in fakes.objects.calls
    )


def test_a_copy_lost_between_the_tasks_is_downloaded_again(fakes: Fakes, tmp_path: Path) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    one = prepare(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))
    (tmp_path / "cache").rename(tmp_path / "lost")

    assert one.upload().published
    assert contents(fakes, tmp_path).keys() == {"a", "b"}


@pytest.mark.usefixtures("unpacked")
def test_a_file_damaged_in_the_bucket_stops_the_upload_and_publishes_nothing(fakes: Fakes, tmp_path: Path) -> None:
    first = compact(fakes, a_delta({"a": [1, 0]}))
    one = prepare(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))
    (tmp_path / "cache").rename(tmp_path / "lost")
    damaged = next(key for key in fakes.objects.keys("snapshot/") if key.endswith("ledger.parquet"))
    fakes.objects.delete([damaged])

    with pytest.raises(SnapshotCorruptError, match=damaged):
        one.upload()
    assert published(fakes).snapshot_id == first.snapshot_id


@pytest.mark.usefixtures("unpacked")
def test_a_file_deleted_from_the_bucket_is_not_published_even_if_the_compactor_has_a_copy(
    fakes: Fakes,
) -> None:
    compact(fakes, a_delta({"a": [1, 0]}), a_delta({"b": [1, 0]}, collection="others"))
    before = published(fakes)
    gone = before.collections["others"].files["chroma.sqlite3"].key
    del fakes.objects.objects[gone]
    with pytest.raises(SnapshotCorruptError, match=f"{gone} is missing"):
        prepare(fakes, a_delta(deletes={"never"}, collection="others")).upload()
    assert published(fakes) == before


def test_a_file_deleted_from_the_bucket_does_not_stop_other_collections(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}), a_delta({"b": [1, 0]}, collection="others"))
    del fakes.objects.objects[published(fakes).collections["others"].files[LEDGER_FILE].key]

    compact(fakes, a_delta({"c": [0, 1]}, at=NOW + 1))

    assert published(fakes).collections["docs"].records == 2


def test_a_second_run_of_the_same_pass_returns_the_first_result(fakes: Fakes) -> None:
    one = prepare(fakes, a_delta({"a": [1, 0]}))
    first = one.upload()
    fakes.objects.calls.clear()

    second = one.upload()

    assert second.model_copy(update={"seconds": first.seconds}) == first
    assert uploads(fakes) == []


def test_a_second_run_reports_that_the_first_result_is_missing(fakes: Fakes) -> None:
    one = prepare(fakes, a_delta({"a": [1, 0]}))
    first = one.upload()
    fakes.objects.delete([result_key(str(first.snapshot_id))])

    with pytest.raises(SnapshotCorruptError, match=r"result\.json is missing"):
        one.upload()


@pytest.mark.parametrize("error", [TransientStorageError("lost response"), PreconditionFailedError("our own")])
def test_a_swap_whose_response_was_lost_is_a_success(fakes: Fakes, error: Exception) -> None:
    one = prepare(fakes, a_delta({"a": [1, 0]}))

    def lose(call: str, key: str) -> None:
        if call == "put_if":
            raise error

    fakes.objects.after = lose

    assert one.upload().snapshot_id == published(fakes).snapshot_id


def test_a_stalled_execution_cannot_overwrite_what_another_published(fakes: Fakes) -> None:
    stalled = prepare(fakes, a_delta({"a": [1, 0]}))

    def publish_other(_key: str) -> None:
        # Somebody deleted the lock item, so that the other execution can acquire the lease and publish.
        Pass(fakes, OTHER).up_to_upload().upload()

    fakes.objects.run_before_next("put_if", publish_other)

    with pytest.raises(SnapshotConflictError, match=OTHER):
        stalled.upload()
    assert published(fakes).execution == OTHER


def test_a_base_that_is_no_longer_published_stops_the_upload_before_any_work(fakes: Fakes) -> None:
    stalled = prepare(fakes, a_delta({"a": [1, 0]}))
    Pass(fakes, OTHER).up_to_upload().upload()
    stalled.take_lease()
    fakes.objects.calls.clear()

    with pytest.raises(SnapshotConflictError, match=OTHER):
        stalled.upload()
    assert fakes.objects.calls == [("get", pointer_key())] * 2


def test_an_execution_that_lost_its_lease_publishes_nothing(fakes: Fakes) -> None:
    one = prepare(fakes, a_delta({"a": [1, 0]}))

    def let_the_lease_expire(call: str, key: str) -> None:
        if call == "put" and key.endswith("manifest.json"):
            fakes.leases.release(fakes.settings.lock_id, OWN)
            fakes.clock.tick(fakes.settings.lease_seconds + 1)
            fakes.hold_lease(OTHER)

    fakes.objects.after = let_the_lease_expire

    with pytest.raises(LockLostError):
        one.upload()
    assert fakes.objects.head(pointer_key()) is None


def test_a_crash_before_the_swap_leaves_the_base_published_and_the_retry_succeeds(fakes: Fakes, tmp_path: Path) -> None:
    first = compact(fakes, a_delta({"a": [1, 0]}))
    one = prepare(fakes, a_delta({"b": [0, 1]}, at=NOW + 1))

    def crash(call: str, key: str) -> None:
        if call == "put" and key.endswith("manifest.json"):
            raise MemoryError

    fakes.objects.before = crash
    with pytest.raises(MemoryError):
        one.upload()
    assert published(fakes).snapshot_id == first.snapshot_id
    fakes.objects.before = lambda _call, _key: None

    assert one.upload().published
    assert contents(fakes, tmp_path).keys() == {"a", "b"}


def test_a_pass_over_merged_deltas_publishes_nothing(fakes: Fakes) -> None:
    delta = a_delta({"a": [1, 0]}, deletes=["b"])
    first = compact(fakes, delta)

    one = prepare(fakes, delta)
    again = one.upload()

    assert (again.published, again.snapshot_id) == (False, first.snapshot_id)
    assert again.outcome == outcome_key(OWN, 1)
    assert [o.status for o in unpack_outcomes(fakes.objects.get(again.outcome).body)] == ["merged"]
    assert published(fakes).snapshot_id == first.snapshot_id


def test_a_pass_that_published_nothing_returns_its_copy_to_the_cache(fakes: Fakes) -> None:
    delta = a_delta({"a": [1, 0]})
    compact(fakes, delta)
    compact(fakes, delta)
    fakes.objects.calls.clear()

    prepare(fakes, a_delta({"b": [0, 1]}, at=NOW + 1)).upload()

    assert not any(
        call in ("download", "get_range") and key.startswith("snapshot/") for call, key in fakes.objects.calls
    )


def test_a_pass_with_only_corrupt_deltas_publishes_nothing(fakes: Fakes) -> None:
    answer = prepare(fakes, a_delta({"a": [float("nan")]})).upload()

    assert (answer.published, answer.snapshot_id, answer.collections) == (False, None, [])
    assert [o.status for o in unpack_outcomes(fakes.objects.get(answer.outcome).body)] == ["quarantined"]
    assert fakes.objects.head(pointer_key()) is None


def test_tombstones_alone_are_published_without_a_chromadb_directory(fakes: Fakes) -> None:
    assert prepare(fakes, a_delta(deletes=["a"])).upload().published

    docs = published(fakes).collections["docs"]
    assert (docs.dimension, docs.records, docs.tombstones) == (None, 0, 1)
    assert docs.files.keys() == {LEDGER_FILE}


def test_a_late_older_upsert_of_a_deleted_id_does_not_resurrect_it(fakes: Fakes) -> None:
    compact(fakes, a_delta(deletes=["a"], at=NOW + 5))

    compact(fakes, a_delta({"a": [1, 0]}, at=NOW + 1), a_delta(deletes=["b"], at=NOW + 6))

    docs = published(fakes).collections["docs"]
    assert (docs.dimension, docs.records, docs.tombstones) == (None, 0, 2)


def test_a_newer_upsert_replaces_the_whole_record(fakes: Fakes, tmp_path: Path) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, documents={"a": "text"}, metadatas={"a": {"n": 1, "m": 2}}))

    compact(fakes, a_delta({"a": [1, 0]}, metadatas={"a": {"n": 1}}, at=NOW + 1))

    assert contents(fakes, tmp_path) == {"a": Record(None, {"n": 1})}


def test_every_phase_is_timed(fakes: Fakes) -> None:
    seconds = prepare(fakes, a_delta({"a": [1, 0]})).upload().seconds

    assert {"download", "read_runs", "fold", "fold.load", "fold.verify", "upload", "publish"} <= seconds.keys()


def test_the_result_counts_the_deltas_of_the_pass_and_the_records_of_the_snapshot(fakes: Fakes) -> None:
    compact(fakes, a_delta({"p": [1, 0]}, collection="pages"))

    answer = prepare(fakes, a_delta({"a": [1, 0]}, at=NOW + 1), a_delta({"c": [9]}, at=NOW + 2)).upload()

    assert (answer.deltas_merged, answer.deltas_quarantined) == (1, 1)
    assert (answer.records, answer.bytes) == (2, published(fakes).bytes)


def test_a_result_that_publishes_nothing_counts_the_published_snapshot(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))

    answer = prepare(fakes, a_delta({"c": [9]}, at=NOW + 1)).upload()

    assert (answer.published, answer.deltas_merged, answer.deltas_quarantined) == (False, 0, 1)
    assert (answer.records, answer.bytes) == (1, published(fakes).bytes)
