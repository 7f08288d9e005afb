"""The one place where S3's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError as BotocoreConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)

from chromadb_compaction.errors import (
    CompactionError,
    ConfigurationError,
    ObjectMissingError,
    PreconditionFailedError,
    TransientStorageError,
)

# A HEAD has no body, so botocore can only give its status as the code.
_MISSING = frozenset({"NoSuchKey", "NotFound", "404"})
_LOST = frozenset({"PreconditionFailed", "412"})
# 409 is a racing write, not a lost race: the caller reads back, then decides.
_PASSING = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "409",
        "SlowDown",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "InternalError",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "BadDigest",
        "IncompleteBody",
    }
)
_BROKEN_CONNECTION: tuple[type[BotoCoreError], ...] = (
    BotocoreConnectionError,
    HTTPClientError,
    IncompleteReadError,
    FlexibleChecksumError,
)


@contextmanager
def translated(bucket: str, key: str) -> Iterator[None]:
    """Raise our error for each S3 error that has a remedy of its own; let the others (AccessDenied...) pass as they are."""
    try:
        yield
    except ClientError as error:
        ours = _ours(error, bucket, key)
        if ours is None:
            raise
        raise ours from error
    except _BROKEN_CONNECTION as error:
        raise TransientStorageError(f"the connection failed at s3://{bucket}/{key}: {error}; try again") from error


def _ours(error: ClientError, bucket: str, key: str) -> CompactionError | None:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return ConfigurationError(f"the bucket {bucket!r} does not exist; set CHROMADB_BUCKET to one that does")
    if code in _MISSING:
        return ObjectMissingError(f"there is no object s3://{bucket}/{key}")
    if code in _LOST:
        return PreconditionFailedError(f"s3://{bucket}/{key} is not what was last read; read it again, then decide")
    if code in _PASSING or status >= 500 or status == 429:
        return TransientStorageError(f"S3 answered {code} ({status}) at s3://{bucket}/{key}; try again")
    return None
