"""The deployed tasks under moto's interpreter, which follows the States language more strictly than ministack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chromadb_compaction import layout
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.manifest import Pointer
from tests.e2e.model import Delta, Row, expected, published
from tests.stack import Stack
from tests.statemachine.engines import Engine, Finished
from tests.statemachine.ministack_engine import admin_client
from tests.statemachine.moto_engine import moto_engine_on

pytestmark = pytest.mark.e2e

ANOTHER = "arn:aws:states:us-east-1:000000000000:execution:chromadb-compaction:another"
LOST_SNAPSHOT = "0000000001-3f2a9c1b"


@pytest.fixture(scope="module")
def moto(local_server: StackHome) -> Iterator[Engine]:
    """Yield moto's interpreter, which calls the functions deployed in the local server."""
    record = local_server.record()
    assert record is not None
    with moto_engine_on(admin_client("lambda", record)) as engine:
        yield engine


@pytest.fixture
def compact_on_moto(moto: Engine, stack: Stack) -> Callable[[], Finished]:
    """Return a function that runs the deployed definition once on moto."""
    machine = stack.sfn.describe_state_machine(stateMachineArn=stack.deployed.exports["STATE_MACHINE_ARN"])
    return lambda: moto.run(json.loads(machine["definition"]))


def some_deltas() -> list[Delta]:
    """Return three deltas. The second replaces and deletes records of the first."""
    return [
        Delta("docs", (Row("a", (1.0, 0.0), "first", {"n": 1}), Row("b", (0.0, 1.0), "gone"))),
        Delta("docs", (Row("a", (0.5, 0.5), "second"), Row("b")), suffix=".jsonl.gz"),
        Delta("notes", (Row("c", (1.0, 2.0, 3.0)),)),
    ]


def message_of(cause: str | None) -> str:
    """Return the message of a cause, which is a Lambda error as JSON."""
    message: str = json.loads(cause or "{}")["errorMessage"]
    return message


def test_on_moto_pending_deltas_are_published_and_the_lease_is_free_again(
    stack: Stack, compact_on_moto: Callable[[], Finished], tmp_path: Path
) -> None:
    deltas = some_deltas()
    stack.put_objects({delta.key: delta.body() for delta in deltas})

    finished = compact_on_moto()

    assert finished.status == "SUCCEEDED", finished.cause
    assert published(stack.s3, stack.bucket, tmp_path) == expected(deltas)
    assert stack.keys("delta/") == []
    assert stack.lease() is None


def test_on_moto_a_failed_task_releases_the_lease_and_its_error_ends_the_execution(
    stack: Stack, compact_on_moto: Callable[[], Finished]
) -> None:
    pointer = Pointer(snapshot_id=LOST_SNAPSHOT, sequence=1, manifest_sha256="0" * 64, commit_id="lost", published_at=0)
    delta = some_deltas()[0]
    stack.put_objects(
        {
            layout.pointer_key(): pointer.model_dump_json().encode(),
            layout.cleaned_key(LOST_SNAPSHOT): b"{}",
            delta.key: delta.body(),
        }
    )

    finished = compact_on_moto()

    assert (finished.status, finished.error) == ("FAILED", "SnapshotCorruptError"), finished.cause
    assert layout.manifest_key(LOST_SNAPSHOT) in message_of(finished.cause)
    assert stack.keys("delta/") == [delta.key]
    assert stack.lease() is None


def test_on_moto_a_second_execution_succeeds_and_names_the_first(
    stack: Stack, compact_on_moto: Callable[[], Finished]
) -> None:
    delta = some_deltas()[0]
    stack.put_objects({delta.key: delta.body()})
    stack.invoke("acquire-lock", {"execution": ANOTHER})

    finished = compact_on_moto()

    assert (finished.status, finished.states[-1]) == ("SUCCEEDED", "AlreadyRunning")
    assert ANOTHER in message_of(finished.output["held"]["Cause"])
    assert stack.keys("delta/") == [delta.key]
