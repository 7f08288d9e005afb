"""Run ChromaDB's own tests against `serve` on a stack, while compactions run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import chromadb.test

ROOT = Path(__file__).parents[2]
SUITE = Path(chromadb.test.__file__ or "").parent
ALL = (
    "test_api.py",
    "api",
    "configurations",
    "test_multithreaded.py",
    "property/test_add.py",
    "property/test_collections.py",
    "property/test_embeddings.py",
    "property/test_filtering.py",
)
"""The files and folders that run, without the tests that `left_out.toml` lists."""

SECONDS_BETWEEN_COMPACTIONS = 5


class SuiteResult(NamedTuple):
    """The numbers of a run, and everything that pytest printed."""

    passed: int
    failed: int
    errors: int
    output: str


@contextmanager
def serving(environment: Mapping[str, str]) -> Iterator[int]:
    """Run `serve` inside the block, and yield its port."""
    command = [sys.executable, "-m", "chromadb_compaction", "serve", "--port", "0", "--allow-reset", "--json"]
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True) as process:
        printed = ""
        while process.stdout is not None and not printed.endswith("}\n"):
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the server ended before it served")
            printed += line
        try:
            yield int(urlsplit(json.loads(printed)["url"]).port or 0)
        finally:
            process.terminate()


@contextmanager
def compacting(environment: Mapping[str, str]) -> Iterator[None]:
    """Run one compaction after another inside the block."""
    stopped = threading.Event()
    command = [sys.executable, "-m", "chromadb_compaction", "compact", "--wait", "--json"]

    def compact() -> None:
        while not stopped.wait(SECONDS_BETWEEN_COMPACTIONS):
            subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=False)

    thread = threading.Thread(target=compact)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def run_suite(port: int, tests: Sequence[str], options: Sequence[str] = (), *, show: bool = False) -> SuiteResult:
    """Run these tests of ChromaDB, by file or by name, against the server on that port."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CHROMA_INTEGRATION_TEST_ONLY": "1",  # as ChromaDB tests a server of another process
        "CHROMA_SERVER_HOST": "127.0.0.1",
        "CHROMA_SERVER_HTTP_PORT": str(port),
    }
    ini = Path(__file__).with_name("pytest.ini")
    plugin = ["-p", "tests.chromadb_suite.plugin", "-c", str(ini), f"--rootdir={SUITE}"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        *plugin,
        *options,
        *(str(SUITE / each) for each in tests),
    ]
    with subprocess.Popen(
        command, env=environment, cwd=SUITE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if show:
                sys.stdout.write(line)
    return _result("".join(lines))


def _result(output: str) -> SuiteResult:
    def number(word: str) -> int:
        found = re.findall(rf"(\d+) {word}", output)
        return int(found[-1]) if found else 0

    return SuiteResult(number("passed"), number("failed"), number("errors?"), output)
