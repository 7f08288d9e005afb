"""AcquireLock and ReleaseLock: one execution at a time, and only the owner releases the lease."""

import pytest

from chromadb_compaction.errors import LockHeldError, TransientStorageError
from chromadb_compaction.messages import AcquireLockRequest, ReleasedLock, ReleaseLockRequest
from chromadb_compaction.steps.acquire_lock import acquire_lock
from chromadb_compaction.steps.release_lock import release_lock
from tests.fakes.services import EXECUTION, new_fakes

OTHER = EXECUTION + "-other"


def test_the_lease_is_acquired_for_the_configured_time() -> None:
    fakes = new_fakes(lock_timeout_minutes=20)

    lease = acquire_lock(AcquireLockRequest(execution=EXECUTION), fakes.services)

    assert (lease.owner, lease.expires_at - lease.acquired_at) == (EXECUTION, 1200)


def test_a_second_execution_learns_the_holder() -> None:
    fakes = new_fakes()
    acquire_lock(AcquireLockRequest(execution=EXECUTION), fakes.services)

    with pytest.raises(LockHeldError, match=EXECUTION):
        acquire_lock(AcquireLockRequest(execution=OTHER), fakes.services)


def test_a_retry_after_a_lost_response_gets_the_lease() -> None:
    fakes = new_fakes()

    def lose_the_response(call: str) -> None:
        raise TransientStorageError(call)

    fakes.leases.after = lose_the_response
    with pytest.raises(TransientStorageError):
        acquire_lock(AcquireLockRequest(execution=EXECUTION), fakes.services)
    fakes.leases.after = lambda _call: None

    assert acquire_lock(AcquireLockRequest(execution=EXECUTION), fakes.services).owner == EXECUTION


def test_the_owner_releases_in_one_call() -> None:
    fakes = new_fakes()
    fakes.hold_lease()
    fakes.leases.calls.clear()

    released = release_lock(ReleaseLockRequest(execution=EXECUTION), fakes.services)

    assert released == ReleasedLock(released=True, holder=None)
    assert fakes.leases.calls == ["release"]


def test_releasing_another_owners_lease_returns_the_holder() -> None:
    fakes = new_fakes()
    fakes.hold_lease(OTHER)

    released = release_lock(ReleaseLockRequest(execution=EXECUTION), fakes.services)

    assert released == ReleasedLock(released=False, holder=OTHER)


def test_releasing_again_finds_no_holder() -> None:
    fakes = new_fakes()
    fakes.hold_lease()
    release_lock(ReleaseLockRequest(execution=EXECUTION), fakes.services)

    again = release_lock(ReleaseLockRequest(execution=EXECUTION), fakes.services)

    assert again == ReleasedLock(released=False, holder=None)
