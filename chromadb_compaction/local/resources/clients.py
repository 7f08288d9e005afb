"""The arguments and results of the functions that make resources."""
# ruff: noqa: ANN401 - clients of ten services are made by name, and inputs are any JSON

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from botocore.config import Config
from botocore.exceptions import ClientError

from chromadb_compaction.local.server import ACCOUNT, REGION
from chromadb_compaction.local.stack import admin_session

Inputs = dict[str, Any]
"""A resource's inputs under the provider's own camel-case names."""


class Created(NamedTuple):
    """A resource that now exists: its id, and the outputs that other resources may use."""

    id: str
    outputs: dict[str, Any]


class AwsClients:
    """The admin's clients for one server. Thread-safe, because Pulumi creates independent resources in parallel.

    Args:
        endpoint: The server's URL.
        secret: The admin's secret access key.
        state_machine_endpoint: The URL of another Step Functions engine beside the server. None: the server's.
    """

    account = ACCOUNT
    region = REGION

    def __init__(self, endpoint: str, secret: str, state_machine_endpoint: str | None = None) -> None:
        self.endpoint = endpoint
        self.secret = secret
        self.state_machine_endpoint = state_machine_endpoint
        self._lock = threading.Lock()
        self._session = admin_session(secret)
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return the one client for `service`."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,
                    endpoint_url=(service == "stepfunctions" and self.state_machine_endpoint) or self.endpoint,
                    config=Config(proxies={}, retries={"total_max_attempts": 1}, max_pool_connections=20),
                )
            return self._clients[service]


class FunctionOptions(NamedTuple):
    """The code package of all functions, variables that are added to all of them, and whether they are published."""

    package: bytes
    environment: Mapping[str, str]
    publishes: bool


class Target(NamedTuple):
    """The server in which resources are made, and the options of its functions."""

    aws: AwsClients
    functions: FunctionOptions

    def client(self, service: str) -> Any:
        """Return the admin's client for `service`."""
        return self.aws.client(service)

    def arn(self, service: str, resource: str) -> str:
        """Return an ARN in this account and region."""
        return f"arn:aws:{service}:{self.aws.region}:{self.aws.account}:{resource}"


Creator = Callable[[Target, Inputs], Created]


def unless_exists(call: Callable[..., Any], /, *codes: str, **arguments: Any) -> bool:
    """Make a resource with `call` and return whether it is new. `codes` are the errors for one that exists already."""
    try:
        call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise
        return False
    return True


def aws_shape(value: Any) -> Any:
    """Return provider inputs (camelCase) with the names of AWS's APIs (PascalCase, `ID` in capitals), without nulls."""
    if isinstance(value, Mapping):
        return {_aws_name(name): aws_shape(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [aws_shape(item) for item in value]
    return value


def _aws_name(name: str) -> str:
    special = {"id": "ID", "replicaKmsKeyId": "ReplicaKmsKeyID"}
    return special.get(name, name[:1].upper() + name[1:])
