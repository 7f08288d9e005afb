"""The sandbox in which every command runs, and the setups that may run before a command."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.layout import delta_stem
from chromadb_compaction.local import server
from chromadb_compaction.local.home import StackHome
from tests.e2e.setups import (
    POINTER,
    Sandbox,
    a_delta_is_pending,
    a_delta_with_one_bad_row,
    compact,
    make_empty_replica,
    replica_of,
    two_snapshots,
    vector,
)
from tests.stack import Stack

HOLDER = "arn:aws:states:us-east-1:000000000000:execution:chromadb-compaction-local:the-holder"
TEXTS = {"whale": "The whale is an animal.", "rocket": "The rocket is a machine."}


class Baseline(NamedTuple):
    """The content of the sandbox: its objects by key, and the values for the names in the cases' arguments."""

    objects: Mapping[str, bytes]
    facts: Mapping[str, str]

    def restore(self, stack: Stack) -> None:
        """Make the stack hold these objects and nothing else, unless it already does."""
        if set(stack.keys()) != self.objects.keys() or stack.get(POINTER) != self.objects[POINTER] or stack.lease():
            stack.empty()
            stack.put_objects(self.objects)


def make_baseline(sandbox: Sandbox) -> Baseline:
    """Publish two snapshots, then quarantine a delta, and leave another pending."""
    stack = sandbox.stack
    two_snapshots(sandbox)
    first, second = sorted({key.split("/")[1] for key in stack.keys("snapshot/0")})
    newer = max(map(delta_stem, stack.keys("compacted/")))
    a_delta_with_one_bad_row(sandbox)
    a_delta_is_pending(sandbox)
    [quarantined] = [delta_stem(key) for key in stack.keys("quarantine/") if key.endswith(".parquet")]
    [pending] = map(delta_stem, stack.keys("delta/"))
    execution = json.loads(stack.get(f"snapshot/{second}/manifest.json"))["execution"].rpartition(":")[2]
    facts = {"first": first, "second": second, "newer": newer, "quarantined": quarantined, "pending": pending}
    facts["replica"] = replica_of(stack)
    objects = {key: stack.get(key) for key in sorted(stack.keys())}
    return Baseline(objects, {**facts, "execution": execution})


def write_files(sandbox: Sandbox) -> None:
    """Write the files that the commands read."""
    lines = ({"id": id_, "document": text} for id_, text in TEXTS.items())
    files = {
        "texts.jsonl": "".join(json.dumps(line) + "\n" for line in lines),
        "vectors.jsonl": json.dumps({"id": "one", "embedding": [1.0, 0.0]}),
        "vector.json": json.dumps(vector("backups")),
    }
    for name, text in files.items():
        (sandbox.directory / name).write_text(text, encoding="utf-8")


def an_empty_stack(sandbox: Sandbox) -> None:
    sandbox.stack.empty()


def texts_are_published(sandbox: Sandbox) -> None:
    """Publish texts in a collection with an embedding function."""
    with DeltaWriter(sandbox.stack.settings, embedding_function="wordllama") as writer:
        for id_, text in TEXTS.items():
            writer.upsert("texts", [id_], [embed([text], "wordllama")[0]], documents=[text])
    compact(sandbox)


def the_pointer_is_damaged(sandbox: Sandbox) -> None:
    sandbox.stack.put_objects({POINTER: b"no pointer"})


def the_lock_is_held(sandbox: Sandbox) -> None:
    stack = sandbox.stack
    leases = stack.services(cache_dir=sandbox.directory).leases
    leases.acquire(stack.settings.lock_id, HOLDER, now=time.time(), seconds=600)


def the_settings_are_gone(sandbox: Sandbox) -> None:
    change_environment(sandbox, dict.fromkeys(sandbox.stack.deployed.exports))


def the_table_is_another(sandbox: Sandbox) -> None:
    change_environment(sandbox, {"DYNAMODB_TABLE": "no-such-table"})


def ctrl_c_is_pressed(sandbox: Sandbox) -> None:
    """Raise KeyboardInterrupt in the next sleep."""

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    patch = pytest.MonkeyPatch()
    sandbox.undo.append(patch.undo)
    patch.setattr("time.sleep", interrupt)


def the_web_server_stops_at_once(sandbox: Sandbox) -> None:
    """Let `serve` listen and print, and end before it answers a request."""
    patch = pytest.MonkeyPatch()
    sandbox.undo.append(patch.undo)
    patch.setattr("uvicorn.Server.run", lambda _self, sockets: None)
    interrupted = signal.getsignal(signal.SIGINT)
    sandbox.undo.append(lambda: signal.signal(signal.SIGINT, interrupted) and None)


def change_environment(sandbox: Sandbox, values: Mapping[str, str | None]) -> None:
    patch = pytest.MonkeyPatch()
    sandbox.undo.append(patch.undo)
    for name, value in values.items():
        if value is None:
            patch.delenv(name, raising=False)
        else:
            patch.setenv(name, value)


@contextmanager
def restored_sandbox(stack: Stack, baseline: Baseline, directory: Path) -> Iterator[Sandbox]:
    """Yield a sandbox on a stack with exactly the content of the baseline, and undo what its test sets up."""
    stack.mark_logs()
    baseline.restore(stack)
    sandbox = Sandbox(stack, directory, [])
    write_files(sandbox)
    yield sandbox
    for undo in reversed(sandbox.undo):
        undo()
    for execution in stack.running_executions():
        stack.sfn.stop_execution(executionArn=execution)


def an_empty_replica(sandbox: Sandbox) -> None:
    make_empty_replica(sandbox.stack)


def a_whole_replica(sandbox: Sandbox) -> None:
    """Make a replica with every object of the bucket."""
    an_empty_replica(sandbox)
    for key in sandbox.stack.keys(""):
        sandbox.stack.s3.put_object(Bucket=replica_of(sandbox.stack), Key=key, Body=sandbox.stack.get(key))


def a_local_server(sandbox: Sandbox) -> None:
    home = StackHome(sandbox.directory / "own")
    server.start(home, end_with_parent=True)
    sandbox.undo.append(lambda: server.stop(home))
