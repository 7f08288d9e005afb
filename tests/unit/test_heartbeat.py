"""The lease is renewed while a task works. A short task costs one write."""

import threading
import time
from collections.abc import Callable

import pytest

from chromadb_compaction.errors import ConfigurationError, LockLostError, TransientStorageError
from chromadb_compaction.heartbeat import Heartbeat, heartbeat_for
from tests.fakes.services import EXECUTION, Fakes, new_fakes

PATIENCE_SECONDS = 5.0
OTHER = EXECUTION + "-other"


@pytest.fixture
def fakes() -> Fakes:
    fakes = new_fakes()
    fakes.hold_lease()
    fakes.leases.calls.clear()
    return fakes


def a_fast_heartbeat(fakes: Fakes) -> Heartbeat:
    return Heartbeat(fakes.leases, fakes.settings.lock_id, EXECUTION, fakes.clock, 900, interval=0.01)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def steal(fakes: Fakes) -> None:
    fakes.leases.leases.clear()
    fakes.hold_lease(OTHER)


def test_a_short_task_costs_one_write(fakes: Fakes) -> None:
    with heartbeat_for(fakes.services, EXECUTION) as renewals:
        renewals.check()
        renewals.check()

    assert fakes.leases.calls == ["renew"]


def test_a_lost_lease_keeps_the_task_from_starting(fakes: Fakes) -> None:
    steal(fakes)
    started = False

    with pytest.raises(LockLostError, match="first-other"), heartbeat_for(fakes.services, EXECUTION):
        started = True

    assert not started


def test_entering_extends_the_lease_by_its_whole_length(fakes: Fakes) -> None:
    fakes.clock.tick(600)

    with heartbeat_for(fakes.services, EXECUTION):
        lease = fakes.leases.read(fakes.settings.lock_id)

    assert lease is not None
    assert lease.expires_at == int(fakes.clock()) + fakes.settings.lease_seconds


def test_a_long_task_renews_again_and_again(fakes: Fakes) -> None:
    with a_fast_heartbeat(fakes):
        wait_until(lambda: fakes.leases.calls.count("renew") >= 4)


def test_no_renewal_follows_the_task(fakes: Fakes) -> None:
    with a_fast_heartbeat(fakes):
        wait_until(lambda: len(fakes.leases.calls) >= 2)
    count = len(fakes.leases.calls)

    time.sleep(0.05)

    assert len(fakes.leases.calls) == count
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_lease_lost_during_the_task_is_raised_by_the_next_check(fakes: Fakes) -> None:
    with a_fast_heartbeat(fakes) as renewals:
        steal(fakes)
        before = len(fakes.leases.calls)
        wait_until(lambda: len(fakes.leases.calls) > before + 1 or renewals_have_stopped())

        with pytest.raises(LockLostError, match="first-other"):
            renewals.check()


def renewals_have_stopped() -> bool:
    return "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_renewal_that_fails_temporarily_is_repeated(fakes: Fakes) -> None:
    failures = iter([TransientStorageError("throttled")] * 3)

    with a_fast_heartbeat(fakes) as renewals:

        def fail_three_times(_call: str) -> None:
            failure = next(failures, None)
            if failure:
                raise failure

        fakes.leases.before = fail_three_times
        wait_until(lambda: fakes.leases.calls.count("renew") >= 6)
        renewals.check()


def test_if_all_renewals_of_a_whole_lease_have_failed_the_check_renews_it(fakes: Fakes) -> None:
    with heartbeat_for(fakes.services, EXECUTION) as renewals:
        fakes.clock.tick(fakes.settings.lease_seconds + 1)
        renewals.check()

        assert fakes.leases.calls == ["renew", "renew"]
        steal(fakes)
        fakes.clock.tick(fakes.settings.lease_seconds + 1)
        with pytest.raises(LockLostError):
            renewals.check()


def test_a_renewal_that_can_never_succeed_is_raised_by_the_check(fakes: Fakes) -> None:
    with a_fast_heartbeat(fakes) as renewals:

        def fail(_call: str) -> None:
            raise ConfigurationError("access is denied")

        fakes.leases.before = fail
        wait_until(renewals_have_stopped)

        with pytest.raises(ConfigurationError, match="access is denied"):
            renewals.check()
