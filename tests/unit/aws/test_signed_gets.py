"""The quick way to an object: what it asks for is what boto3 asks for, and all but a plain success is left to boto3."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError, SSLError
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.errors import ObjectMissingError
from tests.fakes.aws.in_process import InProcessAws
from tests.fakes.aws.protocol import Answer, Call, Refusal, refused, text_header

KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
BOTO3 = "amz-sdk-invocation-id"
"""A header that boto3 sends and the quick way does not."""


class Watched:
    """A bucket in this process that answers as `spoil` makes of it, and the GETs it was sent."""

    def __init__(self) -> None:
        fakes = InProcessAws()
        client = fakes.session().client("s3", config=client_config())
        client.create_bucket(Bucket="bucket")
        self.store = S3ObjectStore(client, "bucket")
        self.store.put("seen", b"first")
        self.store.get("seen")
        self.calls: list[Call] = []
        self.spoil: Callable[[Call, Answer], Answer] = lambda _, answer: answer
        fakes.intercept = self._intercept

    def _intercept(self, call: Call, perform: Callable[[], Answer]) -> Answer:
        self.calls.append(call)
        return self.spoil(call, perform())

    @property
    def by_boto3(self) -> list[bool]:
        """Say of each call whether boto3 itself made it."""
        return [bool(text_header(call.request, BOTO3)) for call in self.calls]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_the_first_get_is_boto3s_and_the_others_are_not(watched: Watched) -> None:
    etag = watched.store.put("seen", b"second")
    watched.calls.clear()

    assert watched.store.get("seen")[:2] == (b"second", etag)
    assert watched.by_boto3 == [False]


@given(KEYS)
def test_any_key_is_written_as_boto3_writes_it_and_signed(key: str) -> None:
    watched = Watched()
    watched.store.put(key, b"content")
    watched.calls.clear()

    assert watched.store.get(key).body == b"content"

    watched.spoil = lambda call, answer: answer if text_header(call.request, BOTO3) else Answer(500, {}, b"")
    assert watched.store.get(key).body == b"content"
    quick, _, boto3 = watched.calls
    assert quick.request.url == boto3.request.url
    ours, theirs = (text_header(call.request, "Authorization").partition("SignedHeaders")[0] for call in (quick, boto3))
    assert ours == theirs


def cut(answer: Answer) -> Answer:
    return Answer(200, {**answer.headers, "content-length": str(len(answer.body))}, answer.body[:-1])


def with_checksum(checksum: str, _call: object, answer: Answer) -> Answer:
    return Answer(200, {**answer.headers, "x-amz-checksum-crc32": checksum}, answer.body)


@pytest.mark.parametrize(
    "spoilt",
    [
        cut,
        partial(with_checksum, "AAAAAA==", None),
        lambda _: Answer(503, {}, b""),
        lambda _: Answer(307, {"location": "https://elsewhere"}, b""),
        lambda answer: Answer(206, answer.headers, answer.body),
        lambda answer: Answer(200, {"etag": answer.headers["etag"]}, answer.body),
    ],
)
def test_whatever_is_no_plain_success_is_asked_of_boto3(watched: Watched, spoilt: Callable[[Answer], Answer]) -> None:
    watched.spoil = lambda call, answer: answer if text_header(call.request, BOTO3) else spoilt(answer)

    assert watched.store.get("seen").body == b"first"
    assert watched.by_boto3 == [False, True]


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
def test_a_connection_that_fails_is_tried_again_by_boto3(watched: Watched, failure: Exception) -> None:
    def fail_once(_: Call, answer: Answer) -> Answer:
        if len(watched.calls) == 1:
            raise failure
        return answer

    watched.spoil = fail_once

    assert watched.store.get("seen").body == b"first"
    assert watched.by_boto3 == [False, True]


def test_a_checksum_that_fits_is_accepted_and_one_of_parts_is_not_held_against_the_whole(watched: Watched) -> None:
    for checksum in ("knHuVw==", "AAAAAA==-3"):
        watched.calls.clear()
        watched.spoil = partial(with_checksum, checksum)
        assert watched.store.get("seen").body == b"first"
        assert watched.by_boto3 == [False]


def test_a_missing_object_is_said_to_be_missing(watched: Watched) -> None:
    with pytest.raises(ObjectMissingError, match="nothing"):
        watched.store.get("nothing")


def test_a_refusal_is_explained_by_boto3(watched: Watched) -> None:
    watched.spoil = lambda call, _: refused(call, Refusal(404, "NoSuchKey"))

    with pytest.raises(ObjectMissingError, match="seen"):
        watched.store.get("seen")
