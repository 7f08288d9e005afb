"""Signed requests: they equal those of boto3, and anything but a 200 is requested again through boto3."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError, SSLError
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.errors import ObjectMissingError, PreconditionFailedError
from tests.fakes.aws.in_process import InProcessAws
from tests.fakes.aws.protocol import Answer, Call, Refusal, refused, text_header

KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
BOTO3 = "amz-sdk-invocation-id"
"""A header that boto3 sends and a signed request does not."""


class Bucket:
    """A bucket in this process, and the GETs sent to it. `change` replaces its responses."""

    def __init__(self) -> None:
        fakes = InProcessAws()
        client = fakes.session().client("s3", config=client_config())
        client.create_bucket(Bucket="bucket")
        self.store = S3ObjectStore(client, "bucket")
        self.store.put("seen", b"first")
        self.store.get("seen")
        self.calls: list[Call] = []
        self.change: Callable[[Call, Answer], Answer] = lambda _, answer: answer
        fakes.intercept = self._intercept

    def _intercept(self, call: Call, perform: Callable[[], Answer]) -> Answer:
        self.calls.append(call)
        return self.change(call, perform())

    @property
    def by_boto3(self) -> list[bool]:
        """Return for each call whether boto3 made it."""
        return [bool(text_header(call.request, BOTO3)) for call in self.calls]


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def test_only_the_first_get_goes_through_boto3(bucket: Bucket) -> None:
    etag = bucket.store.put("seen", b"second")
    bucket.calls.clear()

    assert bucket.store.get("seen")[:2] == (b"second", etag)
    assert bucket.by_boto3 == [False]


@given(KEYS)
def test_the_url_and_signature_of_any_key_equal_those_of_boto3(key: str) -> None:
    bucket = Bucket()
    bucket.store.put(key, b"content")
    bucket.calls.clear()

    assert bucket.store.get(key).body == b"content"

    bucket.change = lambda call, answer: answer if text_header(call.request, BOTO3) else Answer(500, {}, b"")
    assert bucket.store.get(key).body == b"content"
    signed, _, boto3 = bucket.calls
    assert signed.request.url == boto3.request.url
    signature, expected = (
        text_header(call.request, "Authorization").partition("SignedHeaders")[0] for call in (signed, boto3)
    )
    assert signature == expected


def truncated(answer: Answer) -> Answer:
    return Answer(200, {**answer.headers, "content-length": str(len(answer.body))}, answer.body[:-1])


def with_checksum(checksum: str, _call: object, answer: Answer) -> Answer:
    return Answer(200, {**answer.headers, "x-amz-checksum-crc32": checksum}, answer.body)


@pytest.mark.parametrize(
    "changed",
    [
        truncated,
        partial(with_checksum, "AAAAAA==", None),
        lambda _: Answer(503, {}, b""),
        lambda _: Answer(307, {"location": "https://elsewhere"}, b""),
        lambda answer: Answer(206, answer.headers, answer.body),
        lambda answer: Answer(200, {"etag": answer.headers["etag"]}, answer.body),
    ],
)
def test_anything_but_a_complete_200_is_read_again_through_boto3(
    bucket: Bucket, changed: Callable[[Answer], Answer]
) -> None:
    bucket.change = lambda call, answer: answer if text_header(call.request, BOTO3) else changed(answer)

    assert bucket.store.get("seen").body == b"first"
    assert bucket.by_boto3 == [False, True]


@pytest.mark.parametrize(
    "failure",
    [
        ReadTimeoutError(endpoint_url="https://s3"),
        ConnectTimeoutError(endpoint_url="https://s3"),
        EndpointConnectionError(endpoint_url="https://s3"),
        SSLError(endpoint_url="https://s3", error=ValueError("certificate")),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_after_a_failed_connection_the_object_is_read_through_boto3(bucket: Bucket, failure: Exception) -> None:
    def fail_once(_: Call, answer: Answer) -> Answer:
        if len(bucket.calls) == 1:
            raise failure
        return answer

    bucket.change = fail_once

    assert bucket.store.get("seen").body == b"first"
    assert bucket.by_boto3 == [False, True]


def test_a_matching_checksum_is_accepted_and_a_checksum_of_parts_is_ignored(bucket: Bucket) -> None:
    for checksum in ("knHuVw==", "AAAAAA==-3"):
        bucket.calls.clear()
        bucket.change = partial(with_checksum, checksum)
        assert bucket.store.get("seen").body == b"first"
        assert bucket.by_boto3 == [False]


def test_the_error_for_a_missing_object_names_its_key(bucket: Bucket) -> None:
    with pytest.raises(ObjectMissingError, match="s3://bucket/nothing") as caught:
        bucket.store.get("nothing")

    assert caught.value.key == "nothing"


def test_an_error_response_raises_the_error_of_boto3(bucket: Bucket) -> None:
    bucket.change = lambda call, _: refused(call, Refusal(404, "NoSuchKey"))

    with pytest.raises(ObjectMissingError, match="seen"):
        bucket.store.get("seen")


@given(KEYS)
def test_a_copy_of_any_key_equals_that_of_boto3(key: str) -> None:
    bucket = Bucket()
    etag = bucket.store.put(key, b"content")
    bucket.calls.clear()

    bucket.store.copy(key, f"to/{key}", etag=etag)

    assert bucket.by_boto3 == [False]
    bucket.change = lambda call, answer: answer if text_header(call.request, BOTO3) else Answer(500, {}, b"")
    bucket.store.copy(key, f"to/{key}", etag=etag)
    signed, _, boto3 = bucket.calls
    assert signed.request.url == boto3.request.url
    for header in ("x-amz-copy-source", "x-amz-copy-source-if-match", "content-length"):
        assert text_header(signed.request, header) == text_header(boto3.request, header)
    assert bucket.store.get(f"to/{key}").body == b"content"


def test_an_error_in_an_answer_of_200_is_not_a_copy(bucket: Bucket) -> None:
    etag = bucket.store.put("source", b"content")
    bucket.calls.clear()
    failed = Answer(200, {}, b"<Error><Code>InternalError</Code><Message>try again</Message></Error>")
    bucket.change = lambda call, answer: answer if text_header(call.request, BOTO3) else failed

    bucket.store.copy("source", "target", etag=etag)

    assert bucket.by_boto3 == [False, True]


def test_a_copy_of_other_content_raises_the_error_of_boto3(bucket: Bucket) -> None:
    with pytest.raises(PreconditionFailedError):
        bucket.store.copy("seen", "target", etag='"other"')
    with pytest.raises(ObjectMissingError):
        bucket.store.copy("nothing", "target", etag='"other"')
