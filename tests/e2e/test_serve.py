"""`serve` in a process of its own, with ChromaDB's unchanged client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest
from chromadb.api import ClientAPI

from chromadb_compaction import Client
from chromadb_compaction.chroma.client import Server, open_server
from chromadb_compaction.errors import InvalidRequestError
from tests.stack import Stack

pytestmark = pytest.mark.e2e

TOKEN = "a-long-secret"
STOPS_WITHIN = 30


class RunningServer(NamedTuple):
    """The process of `serve`, and its address."""

    process: subprocess.Popen[str]
    port: int

    @contextmanager
    def client(self, **headers: str) -> Iterator[ClientAPI]:
        """Yield `chromadb.HttpClient` of it, and close its connections."""
        server = Server(
            "127.0.0.1", self.port, ssl=False, headers=headers, tenant="default_tenant", database="default_database"
        )
        with open_server(server) as client:
            yield client


@contextmanager
def serving(stack: Stack, cache: Path, *options: str) -> Iterator[RunningServer]:
    environment = {**os.environ, **stack.env, "CHROMADB_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "chromadb_compaction", "serve", "--port", "0", "--json", *options]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = ""
        while not printed.endswith("}\n"):
            line = process.stdout.readline()
            assert line, "the server ended"
            printed += line
        try:
            yield RunningServer(process, int(urlsplit(json.loads(printed)["url"]).port or 0))
        finally:
            process.terminate()
            assert process.wait(STOPS_WITHIN) == 0


def test_records_are_read_at_once_and_stay_when_they_are_compacted(stack: Stack, tmp_path: Path) -> None:
    with serving(stack, tmp_path) as server, server.client() as client:
        docs = client.create_collection("docs", embedding_function=None, metadata={"owner": "Ada"})
        docs.add(ids=["a", "b"], embeddings=np.eye(2, dtype=np.float32), documents=["one", "two"])
        docs.update(ids=["a"], metadatas=[{"n": 1}])
        before = docs.query(query_embeddings=np.eye(2, dtype=np.float32)[:1], n_results=2)

        assert stack.compact().status == "SUCCEEDED"
        docs.delete(ids=["b"])

        assert before["ids"] == [["a", "b"]]
        assert docs.get()["documents"] == ["one"]
        assert docs.get()["metadatas"] == [{"n": 1}]
        assert client.get_collection("docs", embedding_function=None) == docs


def test_the_package_client_and_a_server_see_each_others_writes(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**stack.env, "READ_REFRESH_SECONDS": "0", "CHROMADB_CACHE_DIR": str(tmp_path / "a")}.items():
        monkeypatch.setenv(name, value)
    with Client() as here, serving(stack, tmp_path / "b") as server, server.client() as there:
        ours = here.create_collection("docs", embedding_function=None)
        theirs = there.get_collection("docs", embedding_function=None)
        ours.add(ids=["a"], embeddings=np.ones((1, 1), dtype=np.float32))
        theirs.update(ids=["a"], metadatas=[{"n": 1}])

        assert ours.get()["metadatas"] == [{"n": 1}]


def test_threads_of_one_client_write_and_read_while_compactions_run(stack: Stack, tmp_path: Path) -> None:
    vectors = np.random.default_rng(7).random((40, 8), dtype=np.float32)
    with serving(stack, tmp_path) as server, server.client() as client:
        docs = client.create_collection("docs", embedding_function=None)

        def write(number: int) -> None:
            docs.add(ids=[f"id-{number}"], embeddings=vectors[number : number + 1])
            assert docs.get(ids=[f"id-{number}"])["ids"] == [f"id-{number}"]

        with ThreadPoolExecutor(6) as threads:
            writes = [threads.submit(write, number) for number in range(len(vectors))]
            compactions = [stack.compact() for _ in range(2)]
            for each in writes:
                each.result()

        assert [each.status for each in compactions] == ["SUCCEEDED"] * 2
        assert docs.count() == len(vectors)
        nearest = docs.query(query_embeddings=vectors, n_results=1)["ids"]
        assert [found for (found,) in nearest] == [f"id-{number}" for number in range(len(vectors))]


def test_a_token_is_asked_for(stack: Stack, tmp_path: Path) -> None:
    with serving(stack, tmp_path, "--token", TOKEN) as server:
        with pytest.raises(InvalidRequestError, match="answered 401"), server.client():
            pass
        with server.client(Authorization=f"Bearer {TOKEN}") as client:
            assert client.list_collections() == []


def test_ctrl_c_ends_it_without_an_error(stack: Stack, tmp_path: Path) -> None:
    with serving(stack, tmp_path) as server:
        with server.client() as client:
            client.heartbeat()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(STOPS_WITHIN) == 0
