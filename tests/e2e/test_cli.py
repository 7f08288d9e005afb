"""The command line with plain and JSON output, against the whole system."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from chromadb_compaction.lease import Lease
from tests.builders import a_delta
from tests.e2e.commands import Cli, command_line
from tests.stack import Stack

pytestmark = pytest.mark.e2e

HOLDER = "arn:aws:states:us-east-1:000000000000:execution:chromadb-compaction-local:the-holder"


@pytest.fixture
def cli(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(stack, monkeypatch, capsys)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Write three records without embeddings, and a delete."""
    path = tmp_path / "texts.jsonl"
    records = [
        {"id": "whale", "document": "The blue whale is the largest animal of the sea."},
        {"id": "rocket", "document": "A rocket carries satellites into orbit around the earth."},
        {"id": "bread", "document": "Knead the dough, let it rest and bake the bread."},
        {"id": "gone", "op": "delete"},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def hold_lock(stack: Stack) -> None:
    now = time.time()
    stack.services(cache_dir=Path()).leases.acquire(stack.settings.lock_id, HOLDER, now=now, seconds=600)


def test_files_are_put_compacted_shown_and_queried(cli: Cli, texts: Path) -> None:
    put = cli("put", str(texts), "-c", "texts", "--embedding-function", "wordllama")
    compacted = cli("compact", "--wait")
    asked = cli("query", "animals that live in the ocean", "-c", "texts", "-n", "1")
    status = cli("status")
    history = cli("history")

    assert put.code == compacted.code == asked.code == status.code == history.code == 0
    assert "Wrote 4 records as 1 delta" in put.out
    assert "texts: 3 added" in compacted.out
    assert "whale" in asked.out
    assert "rocket" not in asked.out
    assert "3 records in 1 collection" in status.out
    for state in ("AcquireLock", "MergeBatches", "UploadSnapshot", "ReleaseLock"):
        assert state in history.out


def test_every_command_prints_json(cli: Cli, texts: Path, tmp_path: Path) -> None:
    put = cli("put", str(texts), "-c", "texts", "--embedding-function", "wordllama", "--json").json
    compacted = cli("compact", "--wait", "--json").json
    embedding = tmp_path / "embedding.json"
    embedding.write_text(json.dumps([0.1] * 256), encoding="utf-8")
    asked = cli("query", "--embedding-file", str(embedding), "-c", "texts", "-n", "2", "--json").json
    status = cli("status", "--json").json
    history = cli("history", compacted["execution"], "--json").json

    assert put["records"] == 4
    assert (compacted["status"], compacted["merged"]) == ("SUCCEEDED", 1)
    assert len(asked["ids"][0]) == 2
    assert asked["snapshot_id"] == status["snapshot"]["snapshot_id"] == compacted["snapshot_id"]
    assert status["pending"]["deltas"] == 0
    assert history["status"] == "SUCCEEDED"
    assert history["states"][0]["name"] == "AcquireLock"


def test_a_query_takes_filters_and_lists_records_without_a_text(cli: Cli, stack: Stack) -> None:
    upserts = {"one": [1, 0], "two": [0, 1]}
    texts, metadatas = {"one": "first text", "two": "second text"}, {"one": {"n": 1}, "two": {"n": 2}}
    delta = a_delta(upserts=upserts, documents=texts, metadatas=metadatas, at=time.time())
    stack.put_objects({delta.key: delta.body})
    assert cli("compact", "--wait").code == 0

    listed = cli("query", "-c", "docs")
    filtered = cli("query", "-c", "docs", "--where", '{"n": {"$gt": 1}}', "--json").json
    found = cli("query", "-c", "docs", "--where-document", '{"$contains": "first"}', "--id", "one", "--id", "nothing")
    nothing = cli("query", "-c", "docs", "--where", '{"n": 7}')
    refused = cli("query", "-c", "docs", "--where", '{"n": {"$what": 7}}')

    assert "first text" in listed.out
    assert '{"n": 2}' in listed.out
    assert filtered["ids"] == ["two"]
    assert "first text" in found.out
    assert "second text" not in found.out
    assert (nothing.code, refused.code) == (4, 2)
    assert "has no record that passes the filters" in nothing.err
    assert "ChromaDB refuses" in refused.err


def test_compact_without_wait_starts_an_execution_and_names_it(cli: Cli, stack: Stack) -> None:
    started = cli("compact", "--json")

    assert started.code == 0
    assert stack.wait(started.json["execution"]).status == "SUCCEEDED"


def test_compact_exits_with_3_and_names_the_execution_that_holds_the_lock(cli: Cli, stack: Stack) -> None:
    hold_lock(stack)

    ended = cli("compact", "--wait")
    status = cli("status")

    assert ended.code == 3
    assert "the-holder" in ended.err
    assert "held by the-holder" in status.out


def test_a_failed_execution_exits_with_1_and_history_shows_the_log_line_that_explains_it(
    cli: Cli, stack: Stack
) -> None:
    delta = a_delta(upserts={"a": [1, 0]}, at=time.time())
    stack.put_objects({delta.key: delta.body, "snapshot/CURRENT": b"no pointer"})

    ended = cli("compact", "--wait")
    history = cli("history", "--json").json
    status = cli("status")

    assert ended.code == 1
    assert "SnapshotCorruptError" in ended.err
    assert history["error"] == "SnapshotCorruptError"
    assert "snapshot/CURRENT" in history["message"]
    assert "snapshot/CURRENT" in history["failure"]["explained_by"]
    assert status.code == 5
    assert "1 delta" in status.out
    assert stack.lease() is None


def test_status_shows_why_a_delta_is_in_quarantine(cli: Cli, stack: Stack) -> None:
    good, bad = a_delta(upserts={"a": [1, 0]}, at=time.time()), a_delta(upserts={"b": [1, 0]}, at=time.time())
    stack.put_objects({good.key: good.body, bad.key: bad.body[:-20]})

    compacted = cli("compact", "--wait")
    status = cli("status")

    assert compacted.code == 0
    assert "Quarantined 1 delta" in compacted.out
    assert bad.key in status.out
    assert "Dead letters   1 message" in status.out


def test_commands_exit_with_4_for_names_that_do_not_exist(cli: Cli) -> None:
    assert cli("history", "no-such-execution").code == 4
    asked = cli("query", "anything", "-c", "docs")
    assert asked.code == 4
    assert asked.has_one_error


def test_put_refuses_a_record_without_an_embedding_and_names_the_option_to_add(
    cli: Cli, stack: Stack, texts: Path
) -> None:
    ended = cli("put", str(texts), "-c", "texts")

    assert ended.code == 2
    assert "--embedding-function wordllama" in ended.err
    assert stack.keys("delta/") == []


def test_status_shows_the_lock_of_the_store(cli: Cli, stack: Stack) -> None:
    hold_lock(stack)
    held = stack.lease()

    shown = cli("status", "--json").json["lock"]

    assert isinstance(held, Lease)
    assert (shown["owner"], shown["expired"]) == (held.owner, False)
