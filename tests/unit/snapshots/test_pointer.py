"""The pointer, the manifest it names, and the one write that publishes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from chromadb_compaction.errors import (
    CompactionError,
    LockLostError,
    ObjectMissingError,
    PreconditionFailedError,
    SnapshotConflictError,
    SnapshotCorruptError,
    TransientStorageError,
)
from chromadb_compaction.layout import manifest_key, pointer_key
from chromadb_compaction.manifest import Manifest, Pointer
from chromadb_compaction.snapshots import pointer
from chromadb_compaction.snapshots.pointer import (
    PublishedPointer,
    publish,
    read_manifest,
    read_pointer,
    read_pointer_if_changed,
)
from tests.fakes.services import Fakes, new_fakes

OURS, THEIRS = "arn:ours/1", "arn:theirs/1"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pointer, "SWAP_PAUSE_SECONDS", 0.0)


@pytest.fixture
def fakes() -> Fakes:
    return new_fakes()


def a_pointer(sequence: int = 1, *, commit: str = OURS, manifest: bytes = b"") -> Pointer:
    return Pointer(
        snapshot_id=f"{sequence:010d}-0000000{len(commit) % 10}",
        sequence=sequence,
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
        commit_id=commit,
        published_at=1.0,
    )


def published(fakes: Fakes) -> PublishedPointer:
    found = read_pointer(fakes.services)
    assert found is not None
    return found


def failing(times: int, error: CompactionError) -> Callable[[str, str], None]:
    left = [error] * times

    def fail(call: str, key: str) -> None:
        if call == "put_if" and left:
            raise left.pop()

    return fail


def test_before_the_first_snapshot_there_is_no_pointer(fakes: Fakes) -> None:
    assert read_pointer(fakes.services) is None


def test_what_was_published_is_read(fakes: Fakes) -> None:
    publish(fakes.services, a_pointer(), etag=None)

    assert published(fakes).pointer == a_pointer()


def test_a_pointer_that_cannot_be_understood_names_its_key_and_the_remedy(fakes: Fakes) -> None:
    fakes.objects.put(pointer_key(), b"{not json")

    with pytest.raises(SnapshotCorruptError, match=r"snapshot/CURRENT .*previous version.*snapshots rollback ID"):
        read_pointer(fakes.services)


def test_an_unchanged_pointer_is_the_one_already_known(fakes: Fakes) -> None:
    publish(fakes.services, a_pointer(), etag=None)
    known = published(fakes)

    assert read_pointer_if_changed(fakes.services, known) is known


def test_a_changed_pointer_is_read_again(fakes: Fakes) -> None:
    publish(fakes.services, a_pointer(), etag=None)
    known = published(fakes)
    publish(fakes.services, a_pointer(2), etag=known.etag)

    assert read_pointer_if_changed(fakes.services, known).pointer.sequence == 2


def test_a_deleted_pointer_is_missing(fakes: Fakes) -> None:
    publish(fakes.services, a_pointer(), etag=None)
    known = published(fakes)
    fakes.objects.delete([pointer_key()])

    with pytest.raises(ObjectMissingError):
        read_pointer_if_changed(fakes.services, known)


def test_the_manifest_with_the_pointers_sha256_is_returned(fakes: Fakes) -> None:
    manifest = Manifest(
        snapshot_id="0000000001-00000000",
        parent=None,
        execution="arn:ours",
        commit_id=OURS,
        created_at=1.0,
        seconds=1.0,
        deltas_merged=1,
        deltas_quarantined=0,
        collections={},
    )
    body = manifest.model_dump_json().encode()
    fakes.objects.put(manifest_key(a_pointer().snapshot_id), body)

    assert read_manifest(fakes.services, a_pointer(manifest=body)) == manifest


def test_an_altered_manifest_is_corrupt(fakes: Fakes) -> None:
    fakes.objects.put(manifest_key(a_pointer().snapshot_id), b"{}")

    with pytest.raises(SnapshotCorruptError, match=r"manifest\.json .*SHA-256.*rollback"):
        read_manifest(fakes.services, a_pointer())


def test_a_missing_manifest_is_corrupt(fakes: Fakes) -> None:
    with pytest.raises(SnapshotCorruptError, match=r"manifest\.json is missing.*rollback"):
        read_manifest(fakes.services, a_pointer())


def test_a_manifest_of_an_unknown_format_is_corrupt_even_with_the_pointers_sha256(fakes: Fakes) -> None:
    body = b'{"format": 0}'
    fakes.objects.put(manifest_key(a_pointer().snapshot_id), body)

    with pytest.raises(SnapshotCorruptError, match="format"):
        read_manifest(fakes.services, a_pointer(manifest=body))


def test_a_swap_after_another_one_names_the_commit_that_published(fakes: Fakes) -> None:
    publish(fakes.services, a_pointer(), etag=None)
    base = published(fakes)
    publish(fakes.services, a_pointer(2, commit=THEIRS), etag=base.etag)

    with pytest.raises(SnapshotConflictError, match=THEIRS):
        publish(fakes.services, a_pointer(2), etag=base.etag)
    assert published(fakes).pointer.commit_id == THEIRS


def test_a_first_snapshot_loses_to_another_first_one(fakes: Fakes) -> None:
    publish(fakes.services, a_pointer(commit=THEIRS), etag=None)

    with pytest.raises(SnapshotConflictError, match=THEIRS):
        publish(fakes.services, a_pointer(), etag=None)


def test_a_pointer_that_was_deleted_meanwhile_is_a_conflict(fakes: Fakes) -> None:
    publish(fakes.services, a_pointer(), etag=None)
    base = published(fakes)
    fakes.objects.delete([pointer_key()])

    with pytest.raises(SnapshotConflictError, match="deleted"):
        publish(fakes.services, a_pointer(2), etag=base.etag)


def test_a_lost_response_is_recognised_as_success(fakes: Fakes) -> None:
    fakes.objects.after = failing(1, TransientStorageError("the response was lost"))

    assert publish(fakes.services, a_pointer(), etag=None) == a_pointer()
    assert [call for call, _ in fakes.objects.calls] == ["put_if", "get"]


def test_a_failed_precondition_after_our_own_write_is_recognised_as_success(fakes: Fakes) -> None:
    fakes.objects.after = failing(1, PreconditionFailedError("the client repeated a write whose response was lost"))

    assert publish(fakes.services, a_pointer(), etag=None) == a_pointer()


def test_a_racing_write_that_changed_nothing_is_tried_again(fakes: Fakes) -> None:
    fakes.objects.before = failing(2, TransientStorageError("409 ConditionalRequestConflict"))

    assert publish(fakes.services, a_pointer(), etag=None) == a_pointer()
    assert published(fakes).pointer == a_pointer()


def test_the_pointer_of_an_earlier_attempt_of_the_same_pass_is_kept(fakes: Fakes) -> None:
    publish(fakes.services, a_pointer(), etag=None)
    later = a_pointer().model_copy(update={"snapshot_id": "0000000001-ffffffff"})

    assert publish(fakes.services, later, etag=None) == a_pointer()


def test_a_storage_that_stays_down_is_transient_and_publishes_nothing(fakes: Fakes) -> None:
    fakes.objects.before = failing(99, TransientStorageError("SlowDown"))

    with pytest.raises(TransientStorageError, match="nothing was published"):
        publish(fakes.services, a_pointer(), etag=None)
    assert read_pointer(fakes.services) is None


def test_a_lost_lease_stops_the_swap_between_two_attempts(fakes: Fakes) -> None:
    fakes.objects.before = failing(1, TransientStorageError("SlowDown"))
    checks = iter([None, LockLostError("gone")])

    def check() -> None:
        lost = next(checks)
        if lost is not None:
            raise lost

    with pytest.raises(LockLostError):
        publish(fakes.services, a_pointer(), etag=None, before_swap=check)
    assert read_pointer(fakes.services) is None
