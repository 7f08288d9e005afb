"""Translation of AWS errors into errors that name the operation and the next step."""

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
    response: Any = {
        "Error": {"Code": code, "Message": "the message of AWS"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "Operation")


def translation_of(error: Exception, named: dict[str, type[CompactionError]] | None = None) -> Exception:
    with pytest.raises(Exception) as caught, translated("reading s3://bucket/key", named):  # noqa: PT011 - the tests check the class
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
        FlexibleChecksumError(error_msg="the checksum does not match"),
    ],
)
def test_a_transient_error_says_to_try_again(error: Exception) -> None:
    translated_error = translation_of(error)

    assert isinstance(translated_error, TransientStorageError)
    assert str(translated_error).startswith("reading s3://bucket/key: ")
    assert translated_error.next_step == "try again"
    assert translated_error.__cause__ is error


@pytest.mark.parametrize(
    ("error", "next_step"),
    [
        (an_error("AccessDenied", 403), "permission"),
        (an_error("403", 403), "permission"),
        (an_error("NoSuchBucket", 404), "CHROMADB_BUCKET"),
        (an_error("ResourceNotFoundException"), "DYNAMODB_TABLE"),
        (an_error("StateMachineDoesNotExist"), "STATE_MACHINE_ARN"),
        (an_error("QueueDoesNotExist"), "DELTA_QUEUE_URL"),
        (an_error("ExpiredToken"), "sign in again"),
        (NoCredentialsError(), "AWS credentials"),
    ],
)
def test_a_configuration_error_says_what_to_change(error: Exception, next_step: str) -> None:
    translated_error = translation_of(error)

    assert isinstance(translated_error, ConfigurationError)
    assert next_step in str(translated_error.next_step)
    assert translated_error.__cause__ is error


def test_the_caller_can_name_the_error_of_a_code() -> None:
    translated_error = translation_of(an_error("NoSuchKey", 404), {"NoSuchKey": ObjectMissingError})

    assert isinstance(translated_error, ObjectMissingError)


def test_an_unknown_error_is_raised_unchanged() -> None:
    error = an_error("EntityTooLarge")

    assert translation_of(error) is error


def test_an_error_of_this_package_is_raised_unchanged() -> None:
    error = ObjectMissingError("gone")

    assert translation_of(error) is error
