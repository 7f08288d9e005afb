"""The first copy to a replica: complete, checked, repeatable, the pointer last. Readers wait for what is missing."""

from __future__ import annotations

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import (
    NotReplicatedYetError,
    SnapshotConflictError,
    SnapshotCorruptError,
    TransientStorageError,
)
from chromadb_compaction.operations.replica import ReplicaCopied, copy_to_replica, replica_status
from chromadb_compaction.operations.verify import verify_snapshot
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.snapshots.reader import SnapshotReader
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import compact

OLD = a_delta({"old": [1, 0]}, at=NOW, collection="old")
NEW = a_delta({"new": [0, 1]}, at=NOW + 1, collection="new")
PENDING = a_delta({"pending": [1, 1]}, at=NOW + 2, collection="new")
POINTER = layout.pointer_key()


@pytest.fixture
def source() -> Fakes:
    """A bucket with two snapshots, the second of which keeps files of the first, and a pending delta."""
    fakes = new_fakes()
    compact(fakes, OLD)
    compact(fakes, NEW)
    PENDING.put_into(fakes.objects)
    return fakes


@pytest.fixture
def replica() -> Fakes:
    return new_fakes(chromadb_bucket="chromadb-replica-dev-123456789012")


def replicate(source: Fakes, replica: Fakes, *prefixes: str) -> None:
    """Copy objects as S3 does once replication is set up: only those under these prefixes."""
    for prefix in prefixes:
        for key in source.objects.keys(prefix):
            replica.objects.put(key, source.objects.get(key).body)


def published(fakes: Fakes) -> str:
    found = read_pointer(fakes.services)
    assert found
    return found.pointer.snapshot_id


def replicate_the_last_snapshot(source: Fakes, replica: Fakes) -> None:
    replicate(source, replica, f"snapshot/{published(source)}/", POINTER)


def copy(source: Fakes, replica: Fakes) -> ReplicaCopied:
    return copy_to_replica(source.services, replica.services)


def test_a_replica_without_the_files_of_earlier_snapshots_is_noticed_and_repaired(
    source: Fakes, replica: Fakes
) -> None:
    replicate_the_last_snapshot(source, replica)

    verified = verify_snapshot(replica.services, None, full=False)
    problems = verified.problems
    before = replica_status(source.services, replica.services)
    copied = copy(source, replica)

    # Without its description, the files of `old` are not known: the copy finds them.
    assert verified.missing == len(problems) == 1
    assert (len(before.missing) > 1, before.deltas, before.complete) == (True, [PENDING.key], False)
    assert (copied.files, copied.deltas, copied.pointer) == (len(before.missing), 1, False)
    assert verify_snapshot(replica.services, None, full=True).problems == []
    assert replica_status(source.services, replica.services).complete


def test_an_empty_replica_gets_the_snapshot_the_pending_deltas_and_the_pointer_last(
    source: Fakes, replica: Fakes
) -> None:
    copied = copy(source, replica)

    assert copied.pointer
    assert published(replica) == published(source)
    assert replica.objects.keys("delta/") == {PENDING.key}
    writes = [key for call, key in replica.objects.calls if call in {"put", "put_if", "upload"}]
    assert writes[-1] == POINTER
    assert verify_snapshot(replica.services, None, full=True).problems == []


def test_a_second_copy_does_nothing(source: Fakes, replica: Fakes) -> None:
    first = copy(source, replica)
    before = dict(replica.objects.objects)

    second = copy(source, replica)

    assert replica.objects.objects == before
    assert (second.files, second.deltas, second.pointer) == (0, 0, False)
    assert second.kept == first.files + first.deltas


def test_a_delta_of_the_same_size_with_other_content_is_noticed_and_repaired(source: Fakes, replica: Fakes) -> None:
    copy(source, replica)
    other = bytes(reversed(PENDING.body))
    replica.objects.put(PENDING.key, other)

    assert replica_status(source.services, replica.services).deltas == [PENDING.key]
    assert copy(source, replica).deltas == 1
    assert replica.objects.get(PENDING.key).body == PENDING.body


@pytest.mark.parametrize("after", range(12))
def test_a_copy_that_is_stopped_leaves_no_pointer_and_goes_on(source: Fakes, replica: Fakes, after: int) -> None:
    writes = 0

    def stop(call: str, key: str) -> None:
        nonlocal writes
        writes += call in {"put", "put_if", "upload"}
        if writes > after:
            raise TransientStorageError(f"{key}: 503")

    replica.objects.before = stop
    try:
        copy(source, replica)
    except TransientStorageError:
        assert POINTER not in replica.objects.objects
    replica.objects.before = lambda _call, _key: None

    copy(source, replica)

    assert verify_snapshot(replica.services, None, full=False).problems == []
    assert replica_status(source.services, replica.services).complete


def test_an_altered_file_is_not_copied(source: Fakes, replica: Fakes) -> None:
    found = read_pointer(source.services)
    assert found
    file = read_manifest(source.services, found.pointer).collections["old"].files[layout.LEDGER_FILE]
    source.objects.put(file.key, b"altered")

    with pytest.raises(SnapshotCorruptError, match=file.key):
        copy(source, replica)
    assert POINTER not in replica.objects.objects


def test_a_delta_that_is_merged_during_the_copy_is_copied_all_the_same(source: Fakes, replica: Fakes) -> None:
    def merge(_key: str) -> None:
        compact(source)

    replica.objects.run_before_next("put", merge)
    copy(source, replica)

    assert PENDING.key not in source.objects.objects
    assert replica.objects.get(PENDING.key).body == PENDING.body


def test_a_later_pointer_that_s3_has_replicated_stays(source: Fakes, replica: Fakes) -> None:
    def replicate_a_later_one(_key: str) -> None:
        compact(source)
        replicate(source, replica, "snapshot/")

    replica.objects.run_before_next("put_if", replicate_a_later_one)

    assert not copy(source, replica).pointer
    assert published(replica) == published(source)


def test_another_pointer_that_is_written_at_the_same_time_is_not_overwritten(source: Fakes, replica: Fakes) -> None:
    older = new_fakes()
    compact(older, OLD)
    replica.objects.run_before_next("put_if", lambda _key: replicate(older, replica, "snapshot/"))

    with pytest.raises(SnapshotConflictError, match="run the command again"):
        copy(source, replica)


def test_a_pointer_that_arrives_before_its_manifest_is_waited_for(source: Fakes, replica: Fakes) -> None:
    replicate(source, replica, POINTER)

    with pytest.raises(NotReplicatedYetError, match="wait some minutes, or copy it from the original"):
        SnapshotReader().read_current(replica.services)
    with pytest.raises(NotReplicatedYetError, match=r"manifest.json is missing in the replica chromadb-replica-dev"):
        verify_snapshot(replica.services, None, full=False)


def test_a_reader_of_a_replica_keeps_its_snapshot_until_all_files_of_the_next_are_there(
    source: Fakes, replica: Fakes
) -> None:
    copy(source, replica)
    reader = SnapshotReader()
    first = reader.read_current(replica.services)
    compact(source)
    replicate(source, replica, layout.manifest_key(published(source)), POINTER)

    assert reader.read_current(replica.services) == first
    with reader.reading(replica.services, "old") as readable:
        assert readable.snapshot_id == (first and first.manifest.snapshot_id)

    replicate(source, replica, "snapshot/")
    now = reader.read_current(replica.services)
    assert now is not None
    assert now.manifest.snapshot_id == published(source)


def test_a_bucket_that_is_no_replica_still_reports_damage(source: Fakes) -> None:
    source.objects.delete([layout.manifest_key(published(source))])

    with pytest.raises(SnapshotCorruptError, match="restore its previous version"):
        SnapshotReader().read_current(source.services)
