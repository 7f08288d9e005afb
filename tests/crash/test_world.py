"""A killed process makes no more calls and leaves its disk as it was; a fingerprint covers the whole world."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chromadb_compaction.operations.operator_lease import operator_lease
from chromadb_compaction.ports import DeltaNotification
from tests.crash.determinism import write_files
from tests.crash.folds import FoldMemory
from tests.crash.state_machine import TaskFailed
from tests.crash.world import ExecutionDied, Fault, World
from tests.fakes.aws.in_process import Perform
from tests.fakes.aws.protocol import Answer, Call

ME = "operator:me@here/1"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path / "disk", FoldMemory()) as world:
        yield world


def killed_at_the_put(then: str) -> Fault:
    def fault(world: World, call: Call, perform: Perform) -> Answer:
        if call.operation == "PutObject":
            raise world.kill(then)
        return perform()

    return fault


def hold_the_lock_and_put(world: World) -> None:
    scratch = Path(world.settings.chromadb_cache_dir) / "scratch"
    scratch.mkdir(parents=True)
    (scratch / "half").write_bytes(b"half")
    try:
        with operator_lease(world.services, ME):
            world.services.objects.put("a", b"")
    finally:
        (scratch / "half").unlink()


@pytest.mark.parametrize("then", ["dies", "caught"])
def test_a_killed_process_makes_no_calls_and_its_disk_is_unchanged(world: World, then: str) -> None:
    world.fault = killed_at_the_put(then)

    with pytest.raises((ExecutionDied, TaskFailed)):
        world.run_process(lambda: hold_the_lock_and_put(world))

    lease = world.services.leases.read(world.settings.lock_id)
    assert lease is not None
    assert lease.owner == ME
    assert [path.name for path in (Path(world.settings.chromadb_cache_dir) / "scratch").iterdir()] == ["half"]


def test_an_ordinary_error_runs_the_clean_up_code(world: World) -> None:
    def work() -> None:
        with operator_lease(world.services, ME):
            raise ValueError("why")

    with pytest.raises(TaskFailed) as caught:
        world.run_process(work)

    assert (caught.value.error, caught.value.cause) == ("ValueError", "why")
    assert world.services.leases.read(world.settings.lock_id) is None


def test_every_change_of_the_world_changes_its_fingerprint(world: World) -> None:
    changes: list[Callable[[], object]] = [
        lambda: world.services.objects.put("a", b"one"),
        lambda: world.services.objects.put("a", b"two"),
        lambda: world.services.leases.acquire("lock", ME, now=1, seconds=2),
        lambda: world.services.queue.notify([DeltaNotification("delta/docs/a.parquet", 1, 1)]),
        lambda: world.clock.tick(1),
        lambda: write_files(Path(world.settings.chromadb_cache_dir), {"file": b""}),
    ]
    seen = {world.fingerprint()}
    for change in changes:
        change()
        seen.add(world.fingerprint())

    assert len(seen) == 7
