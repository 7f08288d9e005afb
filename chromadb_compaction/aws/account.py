"""Probes of the account: calls that change nothing and show what the credentials can reach and do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
)
from botocore.exceptions import (
    ConnectionError as NoConnectionError,
)

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "403", "Forbidden", "UnauthorizedOperation", "AuthorizationError"}
)


class Probe(NamedTuple):
    """The result of one probe.

    `text` is empty if the outcome is "ok". For "limited" it says what is missing, otherwise it is the error.
    """

    outcome: Literal["ok", "limited", "denied", "unreachable", "failed"]
    text: str = ""


class IdentityProbe(NamedTuple):
    """The result of asking for the caller's identity.

    `text` is the caller's ARN if the outcome is "ok", otherwise the error. `server_time` is the service's clock in
    Unix seconds.
    """

    outcome: Literal["ok", "no region", "no credentials", "unreachable", "invalid credentials"]
    endpoint: str = ""
    text: str = ""
    server_time: float | None = None


class Account:
    """The account that the default credentials belong to.

    Args:
        session: The session that makes the clients.
        config: The configuration of the clients.
    """

    def __init__(self, session: boto3.Session, config: Config) -> None:
        self._session: Any = session
        self._config = config

    @classmethod
    def connect(cls) -> Account:
        """Return the account of the environment's credentials. Its calls fail fast: one attempt, short timeouts.

        Raises ConfigurationError if AWS_PROFILE names a profile that does not exist.
        """
        fast = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 1})
        try:
            return cls(boto3.Session(), client_config().merge(fast))
        except ProfileNotFound as error:
            message = str(error)
            raise ConfigurationError(message, next_step="unset AWS_PROFILE, or set it to one that exists") from error

    def identity(self) -> IdentityProbe:
        """Return who the caller is, by one call of STS."""
        try:
            client = self._client("sts")
        except NoRegionError:
            return IdentityProbe("no region")
        endpoint = client.meta.endpoint_url
        try:
            response = client.get_caller_identity()
        except NoCredentialsError:
            return IdentityProbe("no credentials", endpoint)
        except (HTTPClientError, NoConnectionError) as error:
            return IdentityProbe("unreachable", endpoint, str(error))
        except (ClientError, BotoCoreError) as error:
            return IdentityProbe("invalid credentials", endpoint, _message(error))
        date = response["ResponseMetadata"]["HTTPHeaders"].get("date")
        server_time = parsedate_to_datetime(date).timestamp() if date else None
        return IdentityProbe("ok", endpoint, response["Arn"], server_time)

    def probe_bucket(self, name: str, prefix: str) -> Probe:
        """Read the bucket's description and versioning, and list `prefix`."""
        client: S3Client = self._client("s3")

        def call() -> str | None:
            client.head_bucket(Bucket=name)
            client.list_objects_v2(Bucket=name, Prefix=prefix, MaxKeys=1)
            versioning = client.get_bucket_versioning(Bucket=name).get("Status", "off")
            return None if versioning == "Enabled" else f"versioning is {versioning}: overwritten objects are lost"

        return probe(call)

    def probe_table(self, name: str, lock_id: str) -> Probe:
        """Read the lock item from the table."""
        key = {"S": f"LOCK#{lock_id}"}
        client = self._client("dynamodb")
        return probe(lambda: client.get_item(TableName=name, Key={"PK": key, "SK": key}, ConsistentRead=True))

    def probe_queue(self, url: str) -> Probe:
        """Read the queue's depth."""
        client = self._client("sqs")
        names = ["ApproximateNumberOfMessages"]
        return probe(lambda: client.get_queue_attributes(QueueUrl=url, AttributeNames=names))

    def probe_state_machine(self, arn: str) -> Probe:
        """Read the state machine's status, and list its executions."""
        client = self._client("stepfunctions")

        def call() -> str | None:
            status = client.describe_state_machine(stateMachineArn=arn)["status"]
            client.list_executions(stateMachineArn=arn, maxResults=1)
            return None if status == "ACTIVE" else f"it is {status}"

        return probe(call)

    def probe_function(self, name: str) -> Probe:
        """Read the function's state."""
        client = self._client("lambda")

        def call() -> str | None:
            found = client.get_function(FunctionName=name)["Configuration"]
            state = found.get("State", "Active")
            reason = found.get("StateReason", "no reason given")
            return None if state in {"Active", "Inactive"} else f"it is {state}: {reason}"

        return probe(call)

    def function_environment(self, name: str) -> Mapping[str, str] | None:
        """Return the environment variables of a function, None if the caller may not read them."""
        try:
            found = self._client("lambda").get_function_configuration(FunctionName=name)
        except (ClientError, BotoCoreError):
            return None
        variables: Mapping[str, str] | None = found.get("Environment", {}).get("Variables")
        return variables

    def probe_logs(self, function: str) -> Probe:
        """Read one line of the log that all versions of the function share. The name may end in an alias."""
        client = self._client("logs")
        group = f"/aws/lambda/{function.partition(':')[0]}"
        return probe(lambda: client.filter_log_events(logGroupName=group, limit=1))

    def _client(self, service: str) -> Any:  # noqa: ANN401 - one type per service
        return self._session.client(service, config=self._config)


def probe(call: Callable[[], object]) -> Probe:
    """Make one call and return its outcome. A `str` that the call returns says what is missing."""
    try:
        returned = call()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code", "") in _DENIED:
            return Probe("denied", f"{error.operation_name} is denied")
        return Probe("failed", _message(error))
    except (HTTPClientError, NoConnectionError) as error:
        return Probe("unreachable", str(error))
    except BotoCoreError as error:
        return Probe("failed", str(error))
    return Probe("limited", returned) if isinstance(returned, str) else Probe("ok")


def _message(error: ClientError | BotoCoreError) -> str:
    """Return the service's code and message without boto3's words around them."""
    found = error.response.get("Error", {}) if isinstance(error, ClientError) else {}
    return f"{found['Code']}: {found.get('Message') or 'no message'}" if found.get("Code") else str(error)
