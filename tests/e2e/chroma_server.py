"""ChromaDB's own server, in a process that tests can kill."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from chromadb_compaction.local.server import free_port

STARTS_WITHIN = 60


class ChromaServer(NamedTuple):
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill the process, as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def chroma_server(directory: Path, *, port: int | None = None) -> Iterator[ChromaServer]:
    """Serve `directory` on loopback inside the `with` block."""
    port = port or free_port()
    arguments = ["run", "--path", str(directory), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        [str(Path(sys.executable).with_name("chroma")), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        server = ChromaServer(f"http://127.0.0.1:{port}", process)
        try:
            _await(server)
            yield server
        finally:
            server.kill()


def _await(server: ChromaServer) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{server.url}/api/v2/heartbeat", timeout=5):
                return
        except (URLError, ConnectionError):
            time.sleep(0.05)
    raise AssertionError(f"the ChromaDB server at {server.url} does not answer")
