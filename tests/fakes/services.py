"""Every service that a step uses, in memory, and a clock that moves only by `tick`."""

from __future__ import annotations

from dataclasses import dataclass, field

from chromadb_compaction.ports import Services
from chromadb_compaction.settings import Settings, load_settings
from tests.fakes.leases import InMemoryLeaseStore
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.queue import InMemoryDeltaQueue

START = 1_760_000_000.0
EXECUTION = "arn:aws:states:eu-west-1:000000000000:execution:chromadb-compaction-dev:first"


class FakeClock:
    """A clock in Unix seconds."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now += seconds


@dataclass
class Fakes:
    """The fakes behind one Services object.

    Args:
        settings: The settings of the services. The bucket and the queues need not exist.
    """

    settings: Settings
    clock: FakeClock = field(default_factory=FakeClock)
    leases: InMemoryLeaseStore = field(default_factory=InMemoryLeaseStore)
    queue: InMemoryDeltaQueue = field(default_factory=InMemoryDeltaQueue)

    def __post_init__(self) -> None:
        self.objects = InMemoryObjectStore(self.clock)

    @property
    def services(self) -> Services:
        """The argument that a step takes."""
        return Services(self.settings, self.objects, self.leases, self.queue, self.clock)

    def services_until(self, deadline: float) -> Services:
        """Return the services of a process that is killed at `deadline`, in Unix seconds."""
        return self.services._replace(deadline=deadline)

    @property
    def calls(self) -> int:
        """The number of calls to all fakes."""
        return len(self.objects.calls) + len(self.leases.calls) + len(self.queue.calls)

    def hold_lease(self, execution: str = EXECUTION) -> None:
        """Acquire the lease for `execution`, as AcquireLock does."""
        self.leases.acquire(self.settings.lock_id, execution, now=self.clock(), seconds=self.settings.lease_seconds)


def new_fakes(**settings: object) -> Fakes:
    """Return fakes without any content. `settings` are environment variables in lower case."""
    environment = {name.upper(): str(value) for name, value in settings.items()}
    return Fakes(load_settings({"CHROMADB_BUCKET": "bucket", **environment}))
