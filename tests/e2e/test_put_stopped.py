"""`put` from a ChromaDB directory in a process that is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromadb_compaction.chroma.client import open_directory
from tests.e2e.model import content_of, published
from tests.stack import Stack

pytestmark = pytest.mark.e2e

# The command line with small deltas. It kills itself after STOP_AFTER deltas.
PROGRAM = """
import os, signal, sys
from chromadb_compaction.client import writer
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.cli.app import run

writer.TARGET_BYTES, writer.MOST_BYTES = 20_000, 25_000
left, name, stored = int(os.environ["STOP_AFTER"]), os.environ["STOP_BY"], S3ObjectStore.put

def put(self, key, body):
    global left
    etag = stored(self, key, body)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), getattr(signal, name))
    return etag

S3ObjectStore.put = put
run(sys.argv[1:])
"""

# Runs a command and prints its peak memory in KiB. It imports little: Linux counts a process's memory before its exec.
MEASURED = """
import resource, subprocess, sys

subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
RECORDS = 300
DELTAS = 9
NEVER = 1000
Put = Callable[..., "subprocess.CompletedProcess[str]"]


def a_directory(path: Path, records: int, *, dimension: int, words: int) -> Path:
    """Make a directory with the collection `notes`, of random vectors and long documents."""
    vectors = np.random.default_rng(7).standard_normal((records, dimension), dtype=np.float32)
    with open_directory(path) as client:
        settings: Any = {"hnsw": {"space": "l2", "sync_threshold": max(records, 1000)}}
        notes = client.create_collection("notes", embedding_function=None, configuration=settings)
        for start in range(0, records, 5000):
            rows = range(start, min(start + 5000, records))
            notes.add(
                ids=[f"note-{row}" for row in rows],
                embeddings=vectors[start : rows.stop],
                documents=[f"note {row}" + " of many words" * words for row in rows],
                metadatas=[{"n": row, "even": row % 2 == 0} for row in rows],
            )
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return a_directory(tmp_path / "chroma", RECORDS, dimension=8, words=33)


@pytest.fixture
def put(stack: Stack, tmp_path: Path) -> Put:
    """Return a function that runs `put` in a process, which a signal stops after `stop_after` deltas."""

    def run(*arguments: str, stop_after: int = NEVER, stop_by: str = "SIGKILL") -> subprocess.CompletedProcess[str]:
        state = {"XDG_STATE_HOME": str(tmp_path / "state"), "CHROMADB_CACHE_DIR": str(tmp_path / "cache")}
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, "put", *arguments],
            env={**os.environ, **stack.env, **state, "STOP_AFTER": str(stop_after), "STOP_BY": stop_by},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_put_that_is_killed_and_interrupted_writes_every_record_once(
    stack: Stack, directory: Path, put: Put, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    killed = put(str(directory), stop_after=2)
    assert stack.compact().status == "SUCCEEDED"
    interrupted = put(str(directory), stop_after=3, stop_by="SIGINT")
    finished = put(str(directory))
    assert stack.compact().status == "SUCCEEDED"

    assert killed.returncode == -signal.SIGKILL
    assert interrupted.returncode == 130
    assert "give the same command again to go on from there" in interrupted.stderr
    assert finished.returncode == 0, finished.stderr
    assert "that were put on" in finished.stdout
    assert len(stack.keys("compacted/")) == DELTAS
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    theirs = content_of(shutil.copytree(directory, tmp_path / "read"), "notes")
    assert published(stack.s3, stack.bucket, tmp_path / "pulled") == {"notes": theirs}
    assert list((tmp_path / "cache" / "scratch").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_thousand_records_take_less_than_300_megabytes(stack: Stack, tmp_path: Path) -> None:
    directory = a_directory(tmp_path / "large", 50_000, dimension=384, words=15)
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "CHROMADB_CACHE_DIR": str(tmp_path / "cache")}
    command = [str(Path(sys.executable).with_name("chromadb-compaction")), "put", str(directory)]

    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        env={**os.environ, **stack.env, **state},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    wrote, peak = done.stdout.splitlines()
    assert wrote == "Wrote 50,000 records as 25 deltas to notes."
    assert int(peak) < 300 * 1000
