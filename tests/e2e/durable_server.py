"""A local stack whose bucket outlives its server, as S3 outlives a compaction.

ministack writes objects to the disk at once. Its other services keep their state in memory, and save it only when they
are asked to stop. So after a SIGKILL the same program is deployed again around the bucket: queue, table and history are
empty, and the caller must restore the lock.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from chromadb_compaction.local import server
from chromadb_compaction.local.deployment import Deployment, deploy_stack
from chromadb_compaction.local.home import ServerRecord, StackHome
from chromadb_compaction.local.resources.clients import AwsClients
from tests.stack import Stack

SECRET = "durable"


class DurableServer:
    """A running server in `home` with one deployed stack."""

    def __init__(self, home: StackHome, deployment: Deployment) -> None:
        self.home = home
        self._deployment = deployment
        self._port = server.free_port()
        home.create()
        self.stack = self._start()

    def kill(self) -> None:
        """Kill the server and all its workers, so that they cannot save anything."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        """Start the server again with its old objects, and deploy the stack again."""
        self.stack = self._start()

    def workers(self) -> list[int]:
        """Return the process ids of the living Lambda workers."""
        named = [int(folder.name.rpartition("-")[2]) for folder in self.home.workers.iterdir()]
        return sorted(pid for pid in named if self._is_ours(pid))

    def _is_ours(self, pid: int) -> bool:
        try:
            return os.getpgid(pid) == self._process.pid
        except ProcessLookupError:
            return False

    def _start(self) -> Stack:
        environment = server.server_environment(self.home, self._port, SECRET, durable=True) | {
            server.PARENT_VARIABLE: str(os.getpid()),
        }
        with self.home.server_log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "chromadb_compaction.local.launch"],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        record = ServerRecord(pid=self._process.pid, port=self._port, secret=SECRET)
        self.home.write_record(record)
        server._await_health(self.home, record)
        return Stack(deploy_stack(self.home, self._deployment, AwsClients(record.endpoint, SECRET)), self.home)
