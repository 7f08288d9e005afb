"""The commands of operators on a partitioned collection, compared with the same collection as one directory."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from rich.console import Console, RenderableType

from chromadb_compaction import layout
from chromadb_compaction.chroma.client import Include, open_collection
from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.cli.views.overview import read_overview
from chromadb_compaction.cli.views.snapshot_text import render_pulled, render_snapshot
from chromadb_compaction.cli.views.snapshots import read_snapshot_list, snapshot_json
from chromadb_compaction.errors import InvalidRequestError, NotReplicatedYetError
from chromadb_compaction.operations.collections import list_collections
from chromadb_compaction.operations.provenance import find_provenance
from chromadb_compaction.operations.pull import pull_snapshot
from chromadb_compaction.operations.replica import copy_to_replica, replica_status
from chromadb_compaction.operations.rollback import RollbackRequest, rollback
from chromadb_compaction.operations.verify import verify_snapshot
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.snapshots.catalogue import read_catalogue
from chromadb_compaction.snapshots.reader import SnapshotReader
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.partitioned import PartitionedBucket

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

FIRSTS = ["", "m", "t"]
FOLDERS = [layout.partition_folder(first) for first in FIRSTS]


@pytest.fixture
def bucket(tmp_path: Path) -> PartitionedBucket:
    """Two snapshots. The second one changes the partition from `m` on, and deletes the only record of the last one."""
    made = PartitionedBucket(tmp_path, FIRSTS)
    made.compact(a_delta({"a": [1, 0], "m": [0, 1], "t": [1, 1]}, documents={"a": "one"}, at=NOW))
    made.compact(a_delta({"n": [1, 1]}, deletes={"t"}, at=NOW + 1))
    return made


def fresh_ids(fakes: Fakes) -> list[str]:
    reader = FreshReader()
    try:
        with reader.reading(fakes.services, "docs") as collection:
            return collection.get(Filters(), limit=None, offset=None, include=[])["ids"]
    finally:
        reader.close()


def text_of(parts: Iterable[RenderableType]) -> str:
    console = Console(file=io.StringIO(), width=200)
    for part in parts:
        console.print(part)
    return cast("io.StringIO", console.file).getvalue()


def ids_in(directory: Path) -> list[str]:
    with open_collection(directory, "docs") as collection:
        return collection.get(include=[])["ids"]


def test_it_is_verified_in_full_and_damage_is_found(bucket: PartitionedBucket) -> None:
    fakes = bucket.divided
    single, divided = (verify_snapshot(each.services, None, full=True) for each in bucket.both)
    assert (divided.problems, divided.records) == ([], single.records)
    catalogue = read_catalogue(fakes.services)
    damaged = next(file for file in catalogue.find(None).manifest.files if FOLDERS[1] in file.key)
    fakes.objects.put(damaged.key, b"x" * damaged.bytes)

    [problem] = verify_snapshot(fakes.services, None, full=False).problems

    assert damaged.key in problem


def test_the_origin_of_a_record_is_found_in_its_partition(bucket: PartitionedBucket) -> None:
    for record_id in ("a", "m", "n", "t", "never written"):
        single, divided = (find_provenance(each.services, "docs", record_id) for each in bucket.both)
        assert divided == single
        assert (divided is None) == (record_id == "never written")


def test_it_is_rolled_back_and_its_deltas_are_replayed(bucket: PartitionedBucket) -> None:
    fakes = bucket.divided
    first = min(read_catalogue(fakes.services).readable)

    done = rollback(RollbackRequest(snapshot_id=first, operator="operator:test", replay=True), fakes.services)

    assert len(done.replayed) == 1
    reader = SnapshotReader()
    with reader.reading(fakes.services, "docs") as readable:
        assert readable.snapshot_id == first
        assert readable.collection is not None
        assert readable.collection.get(include=[])["ids"] == ["a", "m", "t"]
    reader.close()
    assert fresh_ids(fakes) == ["a", "m", "n"]


def test_a_rollback_to_a_snapshot_with_a_missing_partition_is_refused(bucket: PartitionedBucket) -> None:
    fakes = bucket.divided
    catalogue = read_catalogue(fakes.services)
    first = min(catalogue.readable)
    gone = next(file for file in catalogue.find(first).manifest.files if FOLDERS[1] in file.key)
    fakes.objects.delete([gone.key])

    with pytest.raises(Exception, match=gone.key):
        rollback(RollbackRequest(snapshot_id=first, operator="operator:test"), fakes.services)


def test_a_pull_has_a_folder_for_each_partition_and_fetches_only_what_changes(
    bucket: PartitionedBucket, tmp_path: Path
) -> None:
    fakes, copy = bucket.divided, tmp_path / "copy"
    pulled = pull_snapshot(fakes.services, None, copy)
    assert pulled.collections[0].partitions == FOLDERS
    assert [ids_in(copy / "docs" / folder) for folder in FOLDERS[:2]] == [["a"], ["m", "n"]]
    assert "docs (3 partitions, a folder for each)" in text_of(render_pulled(pulled)).replace("\n", "")

    bucket.compact(a_delta({"z": [1, 1]}, at=NOW + 2))
    fakes.objects.calls.clear()
    again = pull_snapshot(fakes.services, None, copy)  # the clients have only read

    assert again.collections[0].refreshed
    downloaded = {key for call, key in fakes.objects.calls if call == "download"}
    assert downloaded
    assert all(FOLDERS[2] in key or key.endswith("chroma.sqlite3") for key in downloaded)
    with open_collection(copy / "docs" / FOLDERS[0], "docs") as collection:
        collection.delete(["a"])
    with pytest.raises(InvalidRequestError, match="was changed since it was pulled"):
        pull_snapshot(fakes.services, None, copy)


def test_a_merged_pull_makes_one_directory_of_all_partitions(bucket: PartitionedBucket, tmp_path: Path) -> None:
    whole, one = tmp_path / "whole", tmp_path / "one"
    pull_snapshot(bucket.divided.services, None, whole, merged=True)
    pull_snapshot(bucket.single.services, None, one)

    with open_collection(whole, "docs") as merged, open_collection(one / "docs", "docs") as single:
        fields: Include = ["documents", "metadatas", "uris"]
        assert merged.get(ids=["a", "m", "n"], include=fields) == single.get(ids=["a", "m", "n"], include=fields)
        assert merged.count() == single.count()
        asked: Any = [[1, 2]]
        assert merged.query(query_embeddings=asked, n_results=2)["ids"] == [["n", "m"]]
    assert not pull_snapshot(bucket.divided.services, None, whole, merged=True).collections[0].refreshed


def test_a_replica_is_complete_only_with_all_partitions(bucket: PartitionedBucket) -> None:
    fakes, replica = bucket.divided, new_fakes(chromadb_bucket="chromadb-replica-dev-123456789012")
    missing = replica_status(fakes.services, replica.services).missing
    assert [each for each in missing if FOLDERS[1] in each]
    copy_to_replica(fakes.services, replica.services)
    assert replica_status(fakes.services, replica.services).complete
    assert fresh_ids(replica) == ["a", "m", "n"]

    replica.objects.delete([key for key in replica.objects.keys("snapshot/") if FOLDERS[1] in key])

    with pytest.raises(NotReplicatedYetError):
        SnapshotReader().read_current(replica.services)


def test_what_is_shown_of_it(bucket: PartitionedBucket) -> None:
    services = bucket.divided.services
    manifest = read_catalogue(services).find(None).manifest
    parts = manifest.collections["docs"].partitions

    shown = text_of(render_snapshot(manifest, published=True))
    stored = snapshot_json(manifest, published=True)["collections"]["docs"]

    assert "docs has 3 partitions:" in shown
    assert [line.split()[:2] for line in shown.splitlines()[-3:]] == [["the", "least"], ["m", "2"], ["t", "0"]]
    assert [(each["first"], each["records"], each["bytes"]) for each in stored["partitions"]] == [
        (each.first, each.records, each.bytes) for each in parts
    ]
    assert all(not each.files_missing and not each.problem for each in read_snapshot_list(services).snapshots)
    assert list_collections(services)[0].records == 3
    overview = read_overview(services, cast("SFNClient", None))
    assert overview.snapshot is not None
    assert overview.snapshot.records == 3
