"""Start and stop ministack, the server that emulates S3, SQS, DynamoDB, Lambda, Step Functions, EventBridge and IAM."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import signal
import socket
import sys
import time
from typing import NamedTuple

from chromadb_compaction.local.errors import LocalStackError
from chromadb_compaction.local.home import ServerRecord, StackHome
from chromadb_compaction.local.program import PYTHONPATH

HOST = "127.0.0.1"
REGION = "us-east-1"
ACCOUNT = "000000000000"
ADMIN_KEY = "test"
"""The access key of ministack's root identity, whose secret is in ServerRecord. Functions have their roles' keys."""

PARENT_VARIABLE = "LOCAL_STACK_PARENT"
"""Names the process with which the server must end. launch.py reads it."""

LAMBDA_PORT_VARIABLE = "LOCAL_STACK_LAMBDA_PORT"
"""The port of the gateway for a Step Functions engine beside the stack. launch.py reads it."""

START_SECONDS = 30.0
STOP_SECONDS = 5.0
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "LD_LIBRARY_PATH")


class _Options(NamedTuple):
    port: int
    end_with_parent: bool
    durable: bool
    lambda_port: int | None


def start(
    home: StackHome,
    *,
    port: int | None = None,
    end_with_parent: bool = False,
    durable: bool = False,
    lambda_port: int | None = None,
) -> ServerRecord:
    """Start a server unless one runs, wait until it answers, and return its record.

    Args:
        home: The directory of the stack.
        port: The port to serve on. None takes any free port.
        end_with_parent: Let the server and its workers end when this process ends, even if it is killed.
        durable: Write objects to the disk at once, and begin with those that an earlier server left.
        lambda_port: The port at which a Step Functions engine beside the stack calls functions. None: there is none.

    Raises:
        LocalStackError: A port is taken, a server already runs with other ports, or the directory is not a stack's.
    """
    home.claim()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with home.locked() as lock:
            if lock is not None:
                options = _Options(port or free_port(), end_with_parent, durable, lambda_port)
                return _start_server(home, options, lock.fileno())
        record = home.record()
        if record is not None and _is_healthy(record.port):
            return _require_ports(record, port, lambda_port)
        time.sleep(0.05)
    raise LocalStackError(
        f"another process holds {home.lock} but starts no server", next_step="end it, or choose another --dir"
    )


def stop(home: StackHome, *, keep_objects: bool = False) -> bool:
    """Stop the server and all its Lambda workers, and remove what they stored. Return False if none was running.

    A directory that is not a stack's is left alone.
    """
    if not home.is_own():
        return False
    record = home.record()
    if record is not None:
        _end_group(record.pid, home)
    with home.locked() as lock:
        # Another process that is starting a server here holds the lock.
        if lock is not None:
            home.discard_server_files(keep_objects=keep_objects)
    return record is not None


def wait(home: StackHome) -> None:
    """Wait until the server has ended."""
    while home.is_served():
        time.sleep(0.2)


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def server_environment(home: StackHome, port: int, secret: str, *, durable: bool) -> dict[str, str]:
    """Return the server's whole environment, which its Lambda workers inherit. `secret` is the admin's.

    It takes little from the caller's environment, so that a worker sees only what its function was deployed with.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return inherited | {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
        "AUTH": "true",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
        "TMPDIR": str(home.temporary),
        "STATE_DIR": str(home.state),
        "S3_DATA_DIR": str(home.objects),
        "S3_PERSIST": "1" if durable else "0",
        "AWS_ACCESS_KEY_ID": ADMIN_KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
        "LAMBDA_ACCOUNT_CONCURRENCY": "100",
        "LAMBDA_WARM_TTL_SECONDS": os.environ.get("LAMBDA_WARM_TTL_SECONDS", "60"),
        "LOCAL_STACK_WORKERS": str(home.workers),
        "LOCAL_STACK_LOGS": str(home.function_logs),
        "PYTHONPATH": PYTHONPATH,
    }


def _require_ports(record: ServerRecord, port: int | None, lambda_port: int | None) -> ServerRecord:
    stop_it = "stop it first: chromadb-compaction local down"
    if port not in (None, record.port):
        raise LocalStackError(f"a local stack already runs on port {record.port}", next_step=stop_it)
    if lambda_port not in (None, record.lambda_port):
        raise LocalStackError(
            f"a local stack already runs, and no engine can call its functions at port {lambda_port}", next_step=stop_it
        )
    return record


def _start_server(home: StackHome, options: _Options, lock: int) -> ServerRecord:
    port, secret = options.port, secrets.token_urlsafe()
    if _is_taken(port):
        raise LocalStackError(f"port {port} is taken by another program", next_step="choose another with --port")
    if options.lambda_port and _is_taken(options.lambda_port):
        raise LocalStackError(
            f"port {options.lambda_port} is taken by another program", next_step="choose another with --lambda-port"
        )
    home.discard_server_files(keep_objects=options.durable)
    home.create()
    parent = {PARENT_VARIABLE: str(os.getpid())} if options.end_with_parent else {}
    gateway = {LAMBDA_PORT_VARIABLE: str(options.lambda_port)} if options.lambda_port else {}
    environment = server_environment(home, port, secret, durable=options.durable) | parent | gateway
    pid = _spawn(home, environment, lock)
    record = ServerRecord(pid=pid, port=port, secret=secret, lambda_port=options.lambda_port)
    home.write_record(record)
    _await_health(home, record)
    return record


def _spawn(home: StackHome, environment: dict[str, str], lock: int) -> int:
    """Start the server in its own process group and with the lock. It may outlive this process."""
    os.set_inheritable(lock, True)  # noqa: FBT003 - the standard library takes it so
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "chromadb_compaction.local.launch"],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(home.server_log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _await_health(home: StackHome, record: ServerRecord) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _is_healthy(record.port):
        if _reap(record.pid):
            raise LocalStackError(f"ministack ended while it started: {home.log_tail()}")
        if time.monotonic() > deadline:
            _end_group(record.pid, home)
            raise LocalStackError(f"ministack did not answer on port {record.port}", next_step=f"see {home.server_log}")
        time.sleep(0.02)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end_group(group: int, home: StackHome) -> None:
    """Kill the server and its workers, and wait until the server has ended.

    SIGKILL loses nothing: the files are removed next, and a polite stop would wait for the functions in flight.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + STOP_SECONDS
    while home.is_served():
        if time.monotonic() > deadline:
            raise LocalStackError(f"the server with process id {group} does not end", next_step=f"kill -9 {group}")
        _reap(group)
        time.sleep(0.01)
    _reap(group)


def _reap(pid: int) -> bool:
    """Collect the server if it is a dead child of this process, so that no zombie stays. Return whether it was."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
