"""The operator's command `snapshots rollback --replay`, as its own process."""

from __future__ import annotations

from chromadb_compaction import layout
from chromadb_compaction.operations.rollback import RollbackRequest, rollback
from tests.crash.state_machine import Ended, TaskFailed
from tests.crash.world import ExecutionDied, World


def roll_back(world: World, operator: str, *, replay: bool = True) -> Ended:
    """Roll back to the oldest snapshot."""
    objects = world.aws.s3.buckets.objects["bucket"]
    oldest = min(key for key in objects if key.endswith("/manifest.json"))
    snapshot_id = str(layout.snapshot_of_key(oldest))
    request = RollbackRequest(snapshot_id=snapshot_id, operator=operator, replay=replay)
    with world.acting_as(operator):
        try:
            world.run_process(lambda: rollback(request, world.services))
        except TaskFailed as failed:
            return Ended("FAILED", failed.error)
        except ExecutionDied:
            return Ended("ABORTED")
    return Ended("SUCCEEDED")
