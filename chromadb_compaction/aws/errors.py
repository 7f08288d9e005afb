"""How AWS's errors become ours: what passes, what must be mended in the environment, and what the caller named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        "ConditionalRequestConflict",  # S3's 409: a racing write; its outcome is unknown until read back
        "LimitExceededException",
        "OperationAborted",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_MISCONFIGURED = {
    "AWS.SimpleQueueService.NonExistentQueue": "there is no such queue; set DELTA_QUEUE_URL or DELTA_DLQ_URL right",
    "QueueDoesNotExist": "there is no such queue; set DELTA_QUEUE_URL or DELTA_DLQ_URL right",
    "ResourceNotFoundException": "there is no such table; set DYNAMODB_TABLE right",
    "NoSuchBucket": "there is no such bucket; set CHROMADB_BUCKET right",
    "AccessDenied": "access is denied; give the role the permission it lacks",
    "AccessDeniedException": "access is denied; give the role the permission it lacks",
    "403": "access is denied; give the role the permission it lacks",
    "ExpiredToken": "the credentials have expired; sign in again",
    "ExpiredTokenException": "the credentials have expired; sign in again",
    "InvalidAccessKeyId": "the access key is unknown; sign in again",
    "UnrecognizedClientException": "the access key is unknown; sign in again",
}


@contextmanager
def translated(action: str, named: Mapping[str, type[CompactionError]] | None = None) -> Iterator[None]:
    """Raise our errors for AWS's. `action` begins the message, e.g. "reading s3://bucket/key".

    `named` maps error codes that mean something to this caller (NoSuchKey, PreconditionFailed) to the error
    they become. A code that nobody knows stays the ClientError that it is.
    """
    try:
        yield
    except ClientError as error:
        ours = _ours(error, action, named or {})
        if ours is None:
            raise
        raise ours from error
    except (BotocoreConnectionError, FlexibleChecksumError, HTTPClientError, IncompleteReadError) as error:
        raise TransientStorageError(f"{action} failed on the way: {error}; try again") from error
    except (NoCredentialsError, PartialCredentialsError, NoRegionError) as error:
        raise ConfigurationError(f"{action}: {error}; configure AWS credentials and AWS_REGION") from error


def error_code(error: ClientError) -> str:
    """Return the service's name for the error; for an answer without a body (HEAD), the HTTP status as text."""
    return error.response.get("Error", {}).get("Code", "")


def _ours(error: ClientError, action: str, named: Mapping[str, type[CompactionError]]) -> CompactionError | None:
    code = error_code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"{action}: {code}: {error.response.get('Error', {}).get('Message', 'no message')}"
    if code in named:
        return named[code](text)
    if code in _TRANSIENT or status >= SERVER_ERROR or status == TOO_MANY_REQUESTS:
        return TransientStorageError(f"{text}; try again")
    if code in _MISCONFIGURED:
        return ConfigurationError(f"{action}: {_MISCONFIGURED[code]} ({text.removeprefix(action + ': ')})")
    return None
