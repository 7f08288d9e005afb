"""AWS's errors come out as ours, with what was being done and what to do now."""

from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    FlexibleChecksumError,
    NoCredentialsError,
    ReadTimeoutError,
)

from chromadb_compaction.aws.errors import translated
from chromadb_compaction.errors import (
    CompactionError,
    ConfigurationError,
    ObjectMissingError,
    TransientStorageError,
)


def an_error(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "as AWS put it"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Operation")


def come_out(error: Exception, named: dict[str, type[CompactionError]] | None = None) -> Exception:
    with pytest.raises(Exception) as caught, translated("reading s3://bucket/key", named):  # noqa: PT011 - which it is, is asked of it
        raise error
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        an_error("SlowDown", 503),
        an_error("ThrottlingException"),
        an_error("ConditionalRequestConflict", 409),
        an_error("SomethingNew", 500),
        an_error("SomethingNew", 429),
        an_error("RequestTimeout"),
        EndpointConnectionError(endpoint_url="https://s3"),
        ConnectTimeoutError(endpoint_url="https://s3"),
        ReadTimeoutError(endpoint_url="https://s3"),
        FlexibleChecksumError(error_msg="what arrived is not what S3 sent"),
    ],
)
def test_what_passes_is_to_be_tried_again(error: Exception) -> None:
    ours = come_out(error)

    assert isinstance(ours, TransientStorageError)
    assert str(ours).startswith("reading s3://bucket/key")
    assert ours.__cause__ is error


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (an_error("AccessDenied", 403), "permission"),
        (an_error("403", 403), "permission"),
        (an_error("NoSuchBucket", 404), "CHROMADB_BUCKET"),
        (an_error("ResourceNotFoundException"), "DYNAMODB_TABLE"),
        (an_error("QueueDoesNotExist"), "DELTA_QUEUE_URL"),
        (an_error("ExpiredToken"), "sign in again"),
        (NoCredentialsError(), "AWS credentials"),
    ],
)
def test_what_must_be_mended_says_where(error: Exception, remedy: str) -> None:
    ours = come_out(error)

    assert isinstance(ours, ConfigurationError)
    assert remedy in str(ours)
    assert ours.__cause__ is error


def test_what_the_caller_named_becomes_what_it_named() -> None:
    ours = come_out(an_error("NoSuchKey", 404), {"NoSuchKey": ObjectMissingError})

    assert isinstance(ours, ObjectMissingError)


def test_what_nobody_knows_stays_what_it_is() -> None:
    error = an_error("EntityTooLarge")

    assert come_out(error) is error


def test_our_own_errors_pass_through() -> None:
    error = ObjectMissingError("gone")

    assert come_out(error) is error
