"""The settings and services of a command, and its name as a lock owner."""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from urllib.parse import urlsplit

from chromadb_compaction.aws.clients import connect
from chromadb_compaction.errors import ConfigurationError
from chromadb_compaction.local.errors import LocalStackNotRunningError
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import Settings, load_settings

SET_ALL = (
    'for the local stack type: eval "$(chromadb-compaction local env)",'
    ' for AWS: set -a; eval "$(pulumi stack output --shell)"; set +a'
)
"""The next step when no setting is there."""


def settings() -> Settings:
    """Return the settings. Raises ConfigurationError and LocalStackNotRunningError, which say what to type."""
    if not os.environ.get("CHROMADB_BUCKET"):
        raise ConfigurationError("CHROMADB_BUCKET is not set", next_step=SET_ALL)
    _require_a_local_server(os.environ.get("AWS_ENDPOINT_URL", ""))
    return load_settings()


def _require_a_local_server(endpoint: str) -> None:
    """Raise LocalStackNotRunningError if the endpoint is on this machine and nothing listens there.

    The AWS clients would try for many seconds.
    """
    url = urlsplit(endpoint)
    if url.hostname not in {"127.0.0.1", "localhost"}:
        return
    try:
        socket.create_connection((url.hostname, url.port or 80), timeout=1).close()
    except OSError as error:
        raise LocalStackNotRunningError(
            f"nothing answers at {endpoint}",
            next_step="start the local stack: chromadb-compaction local up --detach;"
            ' eval "$(chromadb-compaction local env)"',
        ) from error


def services() -> Services:
    """Return the services for the environment's settings."""
    return connect(settings())


def services_of(bucket: str, region: str | None) -> Services:
    """Return the environment's services with another bucket, in `region` if that is given."""
    return connect(settings().model_copy(update={"chromadb_bucket": bucket}), bucket_region=region)


def operator_name() -> str:
    """Return a name for this command as a lock owner, e.g. operator:ada@laptop/5b0c...

    It is different for each command, so that two commands never share a lock.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"operator:{user}@{socket.gethostname()}/{uuid.uuid4()}"
