"""`put` from ChromaDB's own server, which runs in another process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromadb_compaction.chroma.client import open_directory
from chromadb_compaction.cli.sources import chroma_collections
from chromadb_compaction.client import writer
from chromadb_compaction.local.server import free_port
from tests.e2e.chroma_server import ChromaServer, chroma_server
from tests.e2e.commands import Cli, command_line
from tests.e2e.model import content_of, published
from tests.stack import Stack

pytestmark = pytest.mark.e2e

RECORDS = 100


@pytest.fixture
def cli(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line, with small deltas and pages."""
    monkeypatch.setattr(writer, "TARGET_BYTES", 2_000)
    monkeypatch.setattr(writer, "MOST_BYTES", 2_500)
    monkeypatch.setattr(chroma_collections, "PAGE_ROWS", 10)
    return command_line(stack, monkeypatch, capsys)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a directory with the collections `many` (100 records) and `few` (3, of another dimension)."""
    path = tmp_path_factory.mktemp("made") / "chroma"
    with open_directory(path) as client:
        many = client.create_collection("many", embedding_function=None)
        many.add(
            ids=[f"id-{n}" for n in range(RECORDS)],
            embeddings=np.arange(4 * RECORDS, dtype=np.float32).reshape(RECORDS, 4),
            documents=[f"text {n}" for n in range(RECORDS)],
            metadatas=[{"n": n} for n in range(RECORDS)],
        )
        few: Any = {"hnsw": {"space": "ip"}}
        client.create_collection("few", embedding_function=None, configuration=few).add(
            ids=["a", "b", "c"], embeddings=np.eye(3, dtype=np.float32)
        )
    return path


@pytest.fixture
def directory(original: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may serve and change."""
    return shutil.copytree(original, tmp_path / "served")


@pytest.fixture(scope="module")
def server(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """Yield a server for tests that only read."""
    with chroma_server(shutil.copytree(original, tmp_path_factory.mktemp("served") / "chroma")) as running:
        yield running


def test_a_servers_collections_are_put_and_compacted(
    cli: Cli, stack: Stack, server: ChromaServer, original: Path, tmp_path: Path
) -> None:
    done = cli("put", server.url, "--json")
    assert stack.compact().status == "SUCCEEDED"

    assert done.code == 0, done.err
    assert [(one["collection"], one["records"]) for one in done.json["collections"]] == [("few", 3), ("many", RECORDS)]
    content = published(stack.s3, stack.bucket, tmp_path / "pulled")
    theirs = shutil.copytree(original, tmp_path / "read")
    assert content == {name: content_of(theirs, name) for name in ("few", "many")}


def test_put_resumes_after_the_server_died_and_came_back(
    cli: Cli, stack: Stack, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, port = chroma_collections._page, free_port()

    with chroma_server(directory, port=port) as first:

        def read_until_it_dies(collection: Any, limit: int, offset: int) -> Any:
            if offset == 60:
                first.kill()
            return read(collection, limit, offset)

        monkeypatch.setattr(chroma_collections, "_page", read_until_it_dies)
        died = cli("put", first.url, "-c", "many", "--as", "ours")
    monkeypatch.setattr(chroma_collections, "_page", read)
    with chroma_server(directory, port=port) as second:
        done = cli("put", second.url, "-c", "many", "--as", "ours", "--json")

    assert died.code == 1
    assert f"the ChromaDB server at {first.url} failed" in died.err
    assert "give the same command again to go on from there" in died.err
    assert done.code == 0, done.err
    assert done.json["records"] + done.json["collections"][0]["records_before"] == RECORDS
    assert sorted(done.json["deltas"]) == stack.keys("delta/ours/")


def test_put_reports_records_deleted_while_the_server_is_read(
    cli: Cli, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = chroma_collections._page

    def read_while_others_delete(collection: Any, limit: int, offset: int) -> Any:
        if offset == 60:
            collection.delete(ids=["id-5"])
        return read(collection, limit, offset)

    monkeypatch.setattr(chroma_collections, "_page", read_while_others_delete)
    with chroma_server(directory) as server:
        ended = cli("put", server.url, "-c", "many")

    assert ended.code == 1
    assert "were deleted" in ended.err


def test_put_accepts_records_added_while_the_server_is_read(
    cli: Cli, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = chroma_collections._page

    def read_while_others_add(collection: Any, limit: int, offset: int) -> Any:
        collection.upsert(ids=[f"new-{offset}"], embeddings=np.ones((1, 4), dtype=np.float32))
        return read(collection, limit, offset)

    monkeypatch.setattr(chroma_collections, "_page", read_while_others_add)
    with chroma_server(directory) as server:
        ended = cli("put", server.url, "-c", "many", "--json")

    assert ended.code == 0, ended.err
    assert ended.json["records"] == RECORDS


def test_put_reports_what_a_server_lacks_in_one_line(cli: Cli, stack: Stack, server: ChromaServer) -> None:
    complaints = {
        ("put", server.url, "-c", "none"): "has no collection 'none'; it has: few, many",
        ("put", server.url, "--database", "none"): "has no database default_tenant/none",
        ("put", server.url, "--as", "ours"): "choose one with -c NAME: few, many",
        ("put", stack.env["AWS_ENDPOINT_URL"]): "answered 403",
        ("put", f"http://127.0.0.1:{free_port()}"): "no ChromaDB server answers at",
    }
    for command, complaint in complaints.items():
        ended = cli(*command)

        assert ended.code == 2, command
        assert complaint in ended.err
        assert ended.has_one_error
    assert stack.keys("delta/") == []


def test_a_collection_of_another_dimension_than_the_published_one_is_refused(
    cli: Cli, stack: Stack, server: ChromaServer
) -> None:
    cli("put", server.url, "-c", "few")
    assert stack.compact().status == "SUCCEEDED"

    ended = cli("put", server.url, "-c", "many", "--as", "few")

    assert ended.code == 2
    assert "embeddings have 4 dimensions, but the published collection few has 3; nothing was written" in ended.err
    assert stack.keys("delta/") == []


def test_a_dry_run_prints_what_it_would_write_and_writes_nothing(cli: Cli, stack: Stack, server: ChromaServer) -> None:
    plain = cli("put", server.url, "--dry-run")
    as_json = cli("put", server.url, "--dry-run", "--json").json

    assert plain.code == 0
    assert "Would write 3 records as 1 delta to few." in plain.out
    assert (as_json["dry_run"], as_json["records"], as_json["deltas"]) == (True, RECORDS + 3, [])
    assert stack.keys("") == []
