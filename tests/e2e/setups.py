"""Setups that put a stack into the situations of the operations page."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chromadb_compaction.local.server import ACCOUNT
from chromadb_compaction.settings import required
from tests.e2e.model import Delta, Row, plain_client
from tests.stack import ExecutionResult, Stack

DIMENSIONS = 256
POINTER = "snapshot/CURRENT"


class Sandbox(NamedTuple):
    """A stack, the working directory of the commands, and the functions that undo the setups afterwards."""

    stack: Stack
    directory: Path
    undo: list[Callable[[], object]]


Setup = Callable[[Sandbox], None]


def notes(texts: Mapping[str, str], *, collection: str = "notes") -> Delta:
    """Return a delta of records with these documents."""
    return Delta(collection, tuple(Row(id_, vector(id_), text) for id_, text in texts.items()))


def vector(seed: str, length: int = DIMENSIONS) -> tuple[float, ...]:
    """Return the embedding of a seed, which is always the same."""
    numbers = random.Random(seed)
    return tuple(numbers.uniform(-1, 1) for _ in range(length))


def put(sandbox: Sandbox, *deltas: Delta) -> None:
    sandbox.stack.put_objects({delta.key: delta.body() for delta in deltas})


def compact(sandbox: Sandbox, *deltas: Delta) -> ExecutionResult:
    put(sandbox, *deltas)
    result = sandbox.stack.compact()
    assert result.status == "SUCCEEDED", result.cause
    return result


def two_snapshots(sandbox: Sandbox) -> None:
    sandbox.stack.empty()
    compact(
        sandbox,
        notes(
            {
                "backups": "Backups are made every night and kept for a month.",
                "deploy": "We deploy on Tuesdays, never on Fridays.",
                "lunch": "Lunch is at noon in the kitchen.",
            }
        ),
    )
    compact(
        sandbox,
        notes(
            {
                "backups": "Backups are made every hour and kept for a year.",
                "oncall": "The engineer on call carries the phone.",
            }
        ),
    )


def a_delta_is_pending(sandbox: Sandbox) -> None:
    put(sandbox, notes({"rota": "The rota is on the wall."}))


def a_bad_import(sandbox: Sandbox) -> None:
    compact(sandbox, notes({"backups": "lorem ipsum"}), notes({"rota": "The rota is on the wall."}))


def a_stray_file_under_delta(sandbox: Sandbox) -> None:
    sandbox.stack.put_objects({"delta/notes/stray.txt": b"not a delta"})


def a_delta_with_one_bad_row(sandbox: Sandbox) -> None:
    rows = (Row("rota", vector("rota"), "The rota is on the wall."), Row("lunch", (float("nan"),) * DIMENSIONS))
    compact(sandbox, Delta("notes", rows))


def the_dead_letters_alarm_rings(sandbox: Sandbox) -> None:
    cloudwatch = sandbox.stack.deployed.client("cloudwatch")
    name = f"chromadb-compaction-{sandbox.stack.deployed.name}-dead-letters"
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="set by a test")
    sandbox.undo.append(
        lambda: cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="set by a test")
    )


def the_metrics_have_been_written(sandbox: Sandbox) -> None:
    # AWS reads metrics from the functions' logs. The local server does not.
    datum = {
        "MetricName": "PendingDeltas",
        "Dimensions": [{"Name": "stack", "Value": sandbox.stack.deployed.name}],
        "Timestamp": time.time() - 60,
        "Value": 412,
    }
    sandbox.stack.deployed.client("cloudwatch").put_metric_data(Namespace="ChromaDBCompaction", MetricData=[datum])


def an_execution_that_failed(sandbox: Sandbox) -> None:
    two_snapshots(sandbox)
    a_delta_is_pending(sandbox)
    sandbox.stack.put_objects({POINTER: b"no pointer"})
    assert sandbox.stack.compact().status == "FAILED"


def an_execution_that_hangs(sandbox: Sandbox) -> None:
    """Run an execution that takes the lock and then waits for ten minutes."""
    stack = sandbox.stack
    machine = required(stack.settings.state_machine_arn, "STATE_MACHINE_ARN")
    definition = stack.sfn.describe_state_machine(stateMachineArn=machine)["definition"]
    acquire = {**json.loads(definition)["States"]["AcquireLock"], "Next": "Hang"}
    del acquire["Catch"]
    hang = {"Type": "Wait", "Seconds": 600, "End": True}
    hanging = {"StartAt": "AcquireLock", "States": {"AcquireLock": acquire, "Hang": hang}}
    stack.sfn.update_state_machine(stateMachineArn=machine, definition=json.dumps(hanging))
    try:
        stack.start_execution()
        stack.eventually(lambda: stack.lease() is not None, "the execution holds the lock")
    finally:
        stack.sfn.update_state_machine(stateMachineArn=machine, definition=definition)


def a_lock_left_behind(sandbox: Sandbox) -> None:
    """Give the lock to an execution that was aborted."""
    stack = sandbox.stack
    an_execution_that_hangs(sandbox)
    [execution] = stack.running_executions()
    stack.sfn.stop_execution(executionArn=execution)
    stack.eventually(lambda: stack.lease() is None, "the rule has released the lock")
    leases = stack.services(cache_dir=sandbox.directory).leases
    leases.acquire(stack.settings.lock_id, execution, now=time.time(), seconds=600)


def one_object_damaged_another_deleted(sandbox: Sandbox) -> None:
    stack = sandbox.stack
    published = json.loads(stack.get(POINTER))["snapshot_id"]
    pack = f"snapshot/{published}/notes/files.pack"
    body = stack.get(pack)
    stack.put_objects({pack: body[:-1] + bytes([body[-1] ^ 1])})
    stack.s3.delete_object(Bucket=stack.bucket, Key=f"snapshot/{published}/deltas.json.gz")


def replica_of(stack: Stack) -> str:
    """Return the name of the stack's replica."""
    return f"chromadb-replica-{stack.deployed.name}-{ACCOUNT}"


def make_empty_replica(stack: Stack) -> str:
    """Make the replica, or empty it, and return its name."""
    replica = replica_of(stack)
    if replica not in {each["Name"] for each in stack.s3.list_buckets()["Buckets"]}:
        stack.s3.create_bucket(Bucket=replica)
    for each in stack.s3.list_objects_v2(Bucket=replica).get("Contents", []):
        stack.s3.delete_object(Bucket=replica, Key=each["Key"])
    return replica


def a_replica_from_after_the_last_compaction(sandbox: Sandbox) -> None:
    """Make a replica that has only the pointer and the manifest of the published snapshot."""
    stack = sandbox.stack
    replica = make_empty_replica(stack)
    published = json.loads(stack.get(POINTER))["snapshot_id"]
    beside = [f"snapshot/{published}/{name}" for name in ("manifest.json", "deltas.json.gz", "result.json")]
    for key in (POINTER, *beside):
        stack.s3.put_object(Bucket=replica, Key=key, Body=stack.get(key))


def a_chromadb_directory_and_a_file(sandbox: Sandbox) -> None:
    with plain_client(sandbox.directory / "my-chroma") as client:
        wiki = client.create_collection("wiki", embedding_function=None)
        wiki.add(ids=["a", "b", "c"], embeddings=np.eye(3, dtype=np.float32), documents=["A", "B", "C"])
    lines = ({"id": "one", "document": "The first note."}, {"id": "two", "document": "The second note."})
    (sandbox.directory / "notes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


SETUPS: Mapping[str, Setup] = {
    setup.__name__.replace("_", " "): setup
    for setup in (
        two_snapshots,
        a_delta_is_pending,
        a_bad_import,
        a_delta_with_one_bad_row,
        a_stray_file_under_delta,
        the_dead_letters_alarm_rings,
        the_metrics_have_been_written,
        an_execution_that_failed,
        an_execution_that_hangs,
        a_lock_left_behind,
        one_object_damaged_another_deleted,
        a_replica_from_after_the_last_compaction,
        a_chromadb_directory_and_a_file,
    )
}
"""Every setup by its name on the page."""
