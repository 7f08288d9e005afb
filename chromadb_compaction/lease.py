"""The rules of the lease. Time is always a parameter: Unix seconds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

DAY_SECONDS = 86_400


class Lease(BaseModel):
    """The lease of the compaction lock. All times are Unix seconds.

    Attributes:
        lock_id: The name of the lock.
        owner: The execution's ARN, or an operator's name.
        acquired_at: When the owner acquired it.
        heartbeat_at: When it was last renewed.
        expires_at: When it expires unless it is renewed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lock_id: str
    owner: str
    acquired_at: int
    heartbeat_at: int
    expires_at: int

    @classmethod
    def starting(cls, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Return the lease that `owner` gets at `now` for `seconds`."""
        moment = int(now)
        return cls(lock_id=lock_id, owner=owner, acquired_at=moment, heartbeat_at=moment, expires_at=moment + seconds)

    @property
    def ttl(self) -> int:
        """When DynamoDB may delete the item: a day after expiry. TTL deletes late, so nothing relies on it."""
        return self.expires_at + DAY_SECONDS

    def is_expired(self, now: float) -> bool:
        """Return whether another owner may take the lease at `now`."""
        return self.expires_at < now
