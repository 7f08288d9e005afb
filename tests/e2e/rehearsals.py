"""The trouble that the operations page tells how to get out of, made on a stack."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chromadb_compaction.settings import required
from tests.e2e.model import Delta, Row, plain_client
from tests.stack import ExecutionResult, Stack

DIMENSIONS = 256
POINTER = "snapshot/CURRENT"


class Stage(NamedTuple):
    """A stack, the directory where the page is typed, and what has to be undone afterwards."""

    stack: Stack
    directory: Path
    undo: list[Callable[[], object]]


Rehearse = Callable[[Stage], None]


def notes(texts: Mapping[str, str], *, collection: str = "notes") -> Delta:
    """Return a delta of records with these documents."""
    return Delta(collection, tuple(Row(id_, vector(id_), text) for id_, text in texts.items()))


def vector(seed: str, length: int = DIMENSIONS) -> tuple[float, ...]:
    """Return an embedding that is always the same for a seed."""
    numbers = random.Random(seed)
    return tuple(numbers.uniform(-1, 1) for _ in range(length))


def put(stage: Stage, *deltas: Delta) -> None:
    stage.stack.put_objects({delta.key: delta.body() for delta in deltas})


def compact(stage: Stage, *deltas: Delta) -> ExecutionResult:
    put(stage, *deltas)
    result = stage.stack.compact()
    assert result.status == "SUCCEEDED", result.cause
    return result


def two_snapshots(stage: Stage) -> None:
    stage.stack.empty()
    compact(
        stage,
        notes(
            {
                "backups": "Backups are made every night and kept for a month.",
                "deploy": "We deploy on Tuesdays, never on Fridays.",
                "lunch": "Lunch is at noon in the kitchen.",
            }
        ),
    )
    compact(
        stage,
        notes(
            {
                "backups": "Backups are made every hour and kept for a year.",
                "oncall": "Whoever is on call carries the phone.",
            }
        ),
    )


def a_delta_is_pending(stage: Stage) -> None:
    put(stage, notes({"rota": "The rota is on the wall."}))


def a_bad_import(stage: Stage) -> None:
    compact(stage, notes({"backups": "lorem ipsum"}), notes({"rota": "The rota is on the wall."}))


def a_delta_with_one_bad_row(stage: Stage) -> None:
    rows = (Row("rota", vector("rota"), "The rota is on the wall."), Row("lunch", (float("nan"),) * DIMENSIONS))
    compact(stage, Delta("notes", rows))


def the_dead_letters_alarm_rings(stage: Stage) -> None:
    cloudwatch = stage.stack.deployed.client("cloudwatch")
    name = f"chromadb-compaction-{stage.stack.deployed.name}-dead-letters"
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="rehearsed")
    stage.undo.append(lambda: cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="rehearsed"))


def the_metrics_have_been_written(stage: Stage) -> None:
    # AWS takes them from the functions' logs by itself; the local server does not.
    datum = {
        "MetricName": "PendingDeltas",
        "Dimensions": [{"Name": "stack", "Value": stage.stack.deployed.name}],
        "Timestamp": time.time() - 60,
        "Value": 412,
    }
    stage.stack.deployed.client("cloudwatch").put_metric_data(Namespace="ChromaDBCompaction", MetricData=[datum])


def an_execution_that_failed(stage: Stage) -> None:
    two_snapshots(stage)
    a_delta_is_pending(stage)
    stage.stack.put_objects({POINTER: b"no pointer"})
    assert stage.stack.compact().status == "FAILED"


def an_execution_that_hangs(stage: Stage) -> None:
    """Run an execution that takes the lock and then waits for ten minutes."""
    stack = stage.stack
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


def a_lock_left_behind(stage: Stage) -> None:
    """Give the lock to an execution that was aborted."""
    stack = stage.stack
    an_execution_that_hangs(stage)
    [execution] = stack.running_executions()
    stack.sfn.stop_execution(executionArn=execution)
    stack.eventually(lambda: stack.lease() is None, "the rule has released the lock")
    leases = stack.services(cache_dir=stage.directory).leases
    leases.acquire(stack.settings.lock_id, execution, now=time.time(), seconds=600)


def one_object_damaged_another_deleted(stage: Stage) -> None:
    stack = stage.stack
    published = json.loads(stack.get(POINTER))["snapshot_id"]
    database, ledger = (f"snapshot/{published}/notes/{file}" for file in ("chroma.sqlite3", "ledger.parquet"))
    body = stack.get(database)
    stack.put_objects({database: body[:-1] + bytes([body[-1] ^ 1])})
    stack.s3.delete_object(Bucket=stack.bucket, Key=ledger)


def a_chromadb_directory_and_a_file(stage: Stage) -> None:
    with plain_client(stage.directory / "my-chroma") as client:
        wiki = client.create_collection("wiki", embedding_function=None)
        wiki.add(ids=["a", "b", "c"], embeddings=np.eye(3, dtype=np.float32), documents=["A", "B", "C"])
    lines = ({"id": "one", "document": "The first note."}, {"id": "two", "document": "The second note."})
    (stage.directory / "notes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


REHEARSALS: Mapping[str, Rehearse] = {
    act.__name__.replace("_", " "): act
    for act in (
        two_snapshots,
        a_delta_is_pending,
        a_bad_import,
        a_delta_with_one_bad_row,
        the_dead_letters_alarm_rings,
        the_metrics_have_been_written,
        an_execution_that_failed,
        an_execution_that_hangs,
        a_lock_left_behind,
        one_object_damaged_another_deleted,
        a_chromadb_directory_and_a_file,
    )
}
"""Every act by its name on the page."""
