"""The lease lives while a task works, at the cost of one write for a short one."""

import threading
import time
from collections.abc import Callable

import pytest

from chromadb_compaction.errors import ConfigurationError, LockLostError, TransientStorageError
from chromadb_compaction.heartbeat import Heartbeat, heartbeat
from tests.fakes.cloud import EXECUTION, Cloud, a_cloud

PATIENCE_SECONDS = 5.0
OTHER = EXECUTION + "-other"


@pytest.fixture
def cloud() -> Cloud:
    cloud = a_cloud()
    cloud.hold_lease()
    cloud.leases.calls.clear()
    return cloud


def a_fast_heartbeat(cloud: Cloud) -> Heartbeat:
    return Heartbeat(cloud.leases, cloud.settings.lock_id, EXECUTION, cloud.clock, 900, interval=0.01)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def steal(cloud: Cloud) -> None:
    cloud.leases.leases.clear()
    cloud.hold_lease(OTHER)


def test_a_short_task_costs_one_write(cloud: Cloud) -> None:
    with heartbeat(cloud.services, EXECUTION) as heart:
        heart.check()
        heart.check()

    assert cloud.leases.calls == ["renew"]


def test_a_lost_lease_keeps_the_task_from_starting(cloud: Cloud) -> None:
    steal(cloud)
    started = False

    with pytest.raises(LockLostError, match="first-other"), heartbeat(cloud.services, EXECUTION):
        started = True

    assert not started


def test_entering_extends_the_lease_by_its_whole_length(cloud: Cloud) -> None:
    cloud.clock.tick(600)

    with heartbeat(cloud.services, EXECUTION):
        lease = cloud.leases.read(cloud.settings.lock_id)

    assert lease is not None
    assert lease.expires_at == int(cloud.clock()) + cloud.settings.lease_seconds


def test_a_long_task_renews_again_and_again(cloud: Cloud) -> None:
    with a_fast_heartbeat(cloud):
        wait_until(lambda: cloud.leases.calls.count("renew") >= 4)


def test_nothing_beats_after_the_task(cloud: Cloud) -> None:
    with a_fast_heartbeat(cloud):
        wait_until(lambda: len(cloud.leases.calls) >= 2)
    beats = len(cloud.leases.calls)

    time.sleep(0.05)

    assert len(cloud.leases.calls) == beats
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_lease_lost_in_mid_task_is_told_at_the_next_check(cloud: Cloud) -> None:
    with a_fast_heartbeat(cloud) as heart:
        steal(cloud)
        before = len(cloud.leases.calls)
        wait_until(lambda: len(cloud.leases.calls) > before + 1 or heart_has_stopped())

        with pytest.raises(LockLostError, match="first-other"):
            heart.check()


def heart_has_stopped() -> bool:
    return "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_beat_that_fails_in_passing_is_tried_again(cloud: Cloud) -> None:
    failures = iter([TransientStorageError("throttled")] * 3)

    with a_fast_heartbeat(cloud) as heart:

        def fail_three_times(_call: str) -> None:
            failure = next(failures, None)
            if failure:
                raise failure

        cloud.leases.before = fail_three_times
        wait_until(lambda: cloud.leases.calls.count("renew") >= 6)
        heart.check()


def test_when_no_beat_has_got_through_for_a_lease_long_the_check_asks_itself(cloud: Cloud) -> None:
    with heartbeat(cloud.services, EXECUTION) as heart:
        cloud.clock.tick(cloud.settings.lease_seconds + 1)
        heart.check()

        assert cloud.leases.calls == ["renew", "renew"]
        steal(cloud)
        cloud.clock.tick(cloud.settings.lease_seconds + 1)
        with pytest.raises(LockLostError):
            heart.check()


def test_a_beat_that_can_never_succeed_comes_out_of_the_check(cloud: Cloud) -> None:
    with a_fast_heartbeat(cloud) as heart:

        def refuse(_call: str) -> None:
            raise ConfigurationError("access is denied")

        cloud.leases.before = refuse
        wait_until(heart_has_stopped)

        with pytest.raises(ConfigurationError, match="access is denied"):
            heart.check()
