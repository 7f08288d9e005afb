"""Translation of botocore's errors into this package's errors, which say what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from botocore.exceptions import (
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as BotocoreConnectionError,
)

from chromadb_compaction.errors import CompactionError, ConfigurationError, TransientStorageError

SERVER_ERROR = 500
TOO_MANY_REQUESTS = 429

_TRANSIENT = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",  # S3's 409: a racing write, whose outcome is unknown until it is read back
        "InternalError",  # one key's error in a bulk response has no status
        "LimitExceededException",
        "OperationAborted",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_NO_QUEUE = ("the queue does not exist", "set DELTA_QUEUE_URL and DELTA_DLQ_URL to existing queues")
_NO_ACCESS = ("access is denied", "give the caller's role this permission")
_EXPIRED = ("the credentials have expired", "sign in again")
_UNKNOWN_KEY = ("the access key is unknown", "sign in again")
_MISCONFIGURED = {
    "AWS.SimpleQueueService.NonExistentQueue": _NO_QUEUE,
    "QueueDoesNotExist": _NO_QUEUE,
    "ResourceNotFoundException": ("the table does not exist", "set DYNAMODB_TABLE to an existing table"),
    "NoSuchBucket": ("the bucket does not exist", "set CHROMADB_BUCKET to an existing bucket"),
    "StateMachineDoesNotExist": ("the state machine does not exist", "set STATE_MACHINE_ARN to an existing one"),
    "AccessDenied": _NO_ACCESS,
    "AccessDeniedException": _NO_ACCESS,
    "403": _NO_ACCESS,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "UnrecognizedClientException": _UNKNOWN_KEY,
}
"""The problem and the next step, by error code."""


@contextmanager
def translated(action: str, named: Mapping[str, Callable[[str], CompactionError]] | None = None) -> Iterator[None]:
    """Raise a CompactionError in place of an AWS error.

    Args:
        action: The operation and its object, e.g. "reading s3://bucket/key". Every message starts with it.
        named: Makes the error from its message, for codes whose meaning only the caller knows, e.g. NoSuchKey.

    Raises:
        TransientStorageError: Throttling, a server error or a broken connection.
        ConfigurationError: Credentials, a permission or a resource is missing.
        ClientError: The code is unknown. It is raised unchanged.
    """
    try:
        yield
    except ClientError as error:
        translation = _translation(error, action, named or {})
        if translation is None:
            raise
        raise translation from error
    except (BotocoreConnectionError, FlexibleChecksumError, HTTPClientError, IncompleteReadError) as error:
        raise TransientStorageError(f"{action}: {error}", next_step="try again") from error
    except (NoCredentialsError, PartialCredentialsError, NoRegionError) as error:
        raise ConfigurationError(f"{action}: {error}", next_step="configure AWS credentials and AWS_REGION") from error


def _translation(
    error: ClientError, action: str, named: Mapping[str, Callable[[str], CompactionError]]
) -> CompactionError | None:
    details = error.response.get("Error", {})
    code = details.get("Code", "")  # the HTTP status as text if the response has no body, as for HEAD
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    reason = f"{code}: {details.get('Message', 'no message')}"
    if code in named:
        return named[code](f"{action}: {reason}")
    if code in _TRANSIENT or status >= SERVER_ERROR or status == TOO_MANY_REQUESTS:
        return TransientStorageError(f"{action}: {reason}", next_step="try again")
    if code in _MISCONFIGURED:
        problem, next_step = _MISCONFIGURED[code]
        return ConfigurationError(f"{action}: {problem} ({reason})", next_step=next_step)
    return None
