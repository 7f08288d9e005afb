"""What a resource function is given and what it gives back."""
# ruff: noqa: ANN401 - clients of ten services are called by name, with inputs that are any JSON

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from chromadb_compaction.local.server import ACCOUNT, ADMIN_KEY, REGION

Inputs = dict[str, Any]
"""A resource's inputs under the provider's own camel-case names."""


class Created(NamedTuple):
    """A resource that now exists: its id, and the outputs that other resources may refer to."""

    id: str
    outputs: dict[str, Any]


class AwsClients:
    """The admin's clients for one server. Thread-safe: Pulumi creates independent resources side by side."""

    account = ACCOUNT
    region = REGION

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._making = threading.RLock()

    @cached_property
    def session(self) -> boto3.Session:
        """The admin's session, which knows the endpoint only through the clients made here."""
        return boto3.Session(aws_access_key_id=ADMIN_KEY, aws_secret_access_key=ADMIN_KEY, region_name=self.region)

    def client(self, service: str) -> Any:
        """Return the one client for `service`."""
        with self._making:
            if service not in self._clients:
                session: Any = self.session  # its types know no service whose name they cannot see
                self._clients[service] = session.client(
                    service,
                    endpoint_url=self.endpoint,
                    config=Config(proxies={}, retries={"total_max_attempts": 1}, max_pool_connections=20),
                )
            return self._clients[service]

    @cached_property
    def _clients(self) -> dict[str, Any]:
        return {}


class FunctionOptions(NamedTuple):
    """What a deployment changes of the program's functions: the code package, and environment variables of all."""

    package: bytes
    environment: Mapping[str, str]


class Target(NamedTuple):
    """Where a resource is made, and how functions are changed on the way."""

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
    """Make a resource and say whether it was new. `codes` are the errors that mean it exists already."""
    try:
        call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise
        return False
    return True


def aws_shape(value: Any) -> Any:
    """Return provider inputs (camelCase) as AWS's APIs spell them (PascalCase, `ID` in capitals), without nulls."""
    if isinstance(value, Mapping):
        return {_aws_name(name): aws_shape(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [aws_shape(item) for item in value]
    return value


def _aws_name(name: str) -> str:
    special = {"id": "ID", "replicaKmsKeyId": "ReplicaKmsKeyID"}
    return special.get(name, name[:1].upper() + name[1:])
