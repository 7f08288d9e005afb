"""The lease's rules, with time as a parameter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chromadb_compaction.lease import DAY_SECONDS, Lease

times = st.floats(0, 1e10)


@given(times, st.integers(60, 86_400))
def test_a_lease_lasts_as_long_as_stated(now: float, seconds: int) -> None:
    lease = Lease.starting("lock", "owner", now=now, seconds=seconds)

    assert not lease.is_expired(now)
    assert not lease.is_expired(now + seconds - 1)
    assert lease.is_expired(now + seconds + 0.001)


@given(times, times)
def test_an_expired_lease_stays_expired(now: float, later: float) -> None:
    lease = Lease.starting("lock", "owner", now=now, seconds=900)

    assert lease.is_expired(now + 900 + later + 1)


def test_dynamodb_may_delete_it_a_day_after_it_expires() -> None:
    lease = Lease.starting("lock", "owner", now=1000.9, seconds=900)

    assert (lease.acquired_at, lease.heartbeat_at, lease.expires_at) == (1000, 1000, 1900)
    assert lease.ttl == 1900 + DAY_SECONDS


def test_a_lease_cannot_be_changed() -> None:
    lease = Lease.starting("lock", "owner", now=1000, seconds=900)

    with pytest.raises(ValidationError):
        lease.owner = "another"  # type: ignore[misc] # which is the point
