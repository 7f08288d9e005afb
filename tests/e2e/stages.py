"""The stage on which every command is driven, and what may happen to it before one is typed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.layout import delta_stem
from chromadb_compaction.local import server
from chromadb_compaction.local.home import StackHome
from tests.e2e.rehearsals import (
    POINTER,
    Stage,
    a_delta_is_pending,
    a_delta_with_one_bad_row,
    compact,
    two_snapshots,
    vector,
)
from tests.stack import Stack

HOLDER = "arn:aws:states:us-east-1:000000000000:execution:chromadb-compaction-local:the-holder"
TEXTS = {"whale": "The whale is an animal.", "rocket": "The rocket is a machine."}


class Usual(NamedTuple):
    """What the stage holds, and how arguments name it: objects by key, and `<name>` -> value."""

    objects: Mapping[str, bytes]
    facts: Mapping[str, str]

    def restore(self, stack: Stack) -> None:
        """Have the stack hold this and nothing else, unless it does already."""
        if set(stack.keys()) != self.objects.keys() or stack.get(POINTER) != self.objects[POINTER] or stack.lease():
            stack.empty()
            stack.put_objects(self.objects)


def prepare(stage: Stage) -> Usual:
    """Make two snapshots; then refuse a delta, and leave another pending."""
    stack = stage.stack
    two_snapshots(stage)
    first, second = sorted({key.split("/")[1] for key in stack.keys("snapshot/0")})
    newer = max(map(delta_stem, stack.keys("compacted/")))
    a_delta_with_one_bad_row(stage)
    a_delta_is_pending(stage)
    [refused] = [delta_stem(key) for key in stack.keys("quarantine/") if key.endswith(".parquet")]
    [pending] = map(delta_stem, stack.keys("delta/"))
    execution = json.loads(stack.get(f"snapshot/{second}/manifest.json"))["execution"].rpartition(":")[2]
    facts = {"first": first, "second": second, "newer": newer, "refused": refused, "pending": pending}
    objects = {key: stack.get(key) for key in sorted(stack.keys())}
    return Usual(objects, {**facts, "execution": execution})


def write_files(stage: Stage) -> None:
    """Write the files that the commands read."""
    lines = ({"id": id_, "document": text} for id_, text in TEXTS.items())
    files = {
        "texts.jsonl": "".join(json.dumps(line) + "\n" for line in lines),
        "vectors.jsonl": json.dumps({"id": "one", "embedding": [1.0, 0.0]}),
        "vector.json": json.dumps(vector("backups")),
    }
    for name, text in files.items():
        (stage.directory / name).write_text(text, encoding="utf-8")


def nothing_at_all(stage: Stage) -> None:
    stage.stack.empty()


def texts_are_published(stage: Stage) -> None:
    """Publish texts in a collection that knows how to embed a question."""
    with DeltaWriter(stage.stack.settings, embedding_function="wordllama") as writer:
        for id_, text in TEXTS.items():
            writer.upsert("texts", [id_], [embed([text], "wordllama")[0]], documents=[text])
    compact(stage)


def the_pointer_is_damaged(stage: Stage) -> None:
    stage.stack.put_objects({POINTER: b"no pointer"})


def the_lock_is_held(stage: Stage) -> None:
    stack = stage.stack
    leases = stack.services(cache_dir=stage.directory).leases
    leases.acquire(stack.settings.lock_id, HOLDER, now=time.time(), seconds=600)


def the_settings_are_gone(stage: Stage) -> None:
    change_environment(stage, dict.fromkeys(stage.stack.deployed.exports))


def the_table_is_another(stage: Stage) -> None:
    change_environment(stage, {"DYNAMODB_TABLE": "no-such-table"})


def ctrl_c_is_pressed(stage: Stage) -> None:
    """Interrupt whoever sleeps."""

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    patch = pytest.MonkeyPatch()
    stage.undo.append(patch.undo)
    patch.setattr("time.sleep", interrupted)


def change_environment(stage: Stage, values: Mapping[str, str | None]) -> None:
    patch = pytest.MonkeyPatch()
    stage.undo.append(patch.undo)
    for name, value in values.items():
        if value is None:
            patch.delenv(name, raising=False)
        else:
            patch.setenv(name, value)


def a_local_server(stage: Stage) -> None:
    home = StackHome(stage.directory / "own")
    server.start(home, end_with_parent=True)
    stage.undo.append(lambda: server.stop(home))
