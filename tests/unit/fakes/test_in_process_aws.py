"""The in-process AWS, beyond the contracts that its stores pass: faults, and saved state."""

from itertools import chain

import pytest
from botocore.exceptions import ReadTimeoutError

from chromadb_compaction.errors import PreconditionFailedError, TransientStorageError
from chromadb_compaction.ports import DeltaNotification, Services
from chromadb_compaction.settings import load_settings
from tests.fakes.aws.in_process import InProcessAws, Perform
from tests.fakes.aws.protocol import Answer, Call, Refusal, refused

SETTINGS = load_settings(
    {
        "CHROMADB_BUCKET": "bucket",
        "DYNAMODB_TABLE": "table",
        "DELTA_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/000000000000/queue",
        "DELTA_DLQ_URL": "https://sqs.eu-west-1.amazonaws.com/000000000000/dlq",
    }
)


class Killed(BaseException):
    """A simulated end of the process."""


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> InProcessAws:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    aws = InProcessAws()
    aws.create(SETTINGS)
    return aws


@pytest.fixture
def services(aws: InProcessAws) -> Services:
    return aws.services(SETTINGS)


def test_restore_brings_back_the_saved_state_of_every_service(aws: InProcessAws, services: Services) -> None:
    services.objects.put("a", b"one")
    saved = aws.save()
    for _ in range(2):
        services.objects.put("a", b"two")
        services.objects.put("b", b"")
        services.leases.acquire("lock", "me", now=1, seconds=2)
        services.queue.notify([DeltaNotification("delta/docs/a.parquet", 1, 1)])

        aws.restore(saved)

        assert services.objects.get("a").body == b"one"
        assert [info.key for info in services.objects.list("")] == ["a"]
        assert services.leases.read("lock") is None
        assert list(chain.from_iterable(services.queue.receive(1))) == []


def test_the_client_repeats_a_request_whose_response_was_lost(aws: InProcessAws, services: Services) -> None:
    calls: list[str] = []

    def lose_the_first_response(call: Call, perform: Perform) -> Answer:
        calls.append(str(call))
        answer = perform()
        if len(calls) == 1:
            raise ReadTimeoutError(endpoint_url=call.request.url)
        return answer

    aws.intercept = lose_the_first_response

    with pytest.raises(PreconditionFailedError):
        services.objects.put_if("CURRENT", b"one", etag=None)
    assert calls == ["s3.PutObject CURRENT"] * 2
    assert aws.s3.buckets.objects["bucket"]["CURRENT"].body == b"one"


def test_lasting_throttling_fails_after_five_retries(aws: InProcessAws, services: Services) -> None:
    calls: list[str] = []

    def throttle(call: Call, perform: Perform) -> Answer:
        calls.append(str(call))
        return refused(call, Refusal(400, "ProvisionedThroughputExceededException"))

    aws.intercept = throttle

    with pytest.raises(TransientStorageError, match="ProvisionedThroughputExceeded"):
        services.leases.acquire("lock", "me", now=1, seconds=2)
    assert calls == ["dynamodb.PutItem table"] * 6


def test_a_base_exception_is_not_caught_by_any_client(aws: InProcessAws, services: Services) -> None:
    def kill(call: Call, perform: Perform) -> Answer:
        perform()
        raise Killed

    aws.intercept = kill

    with pytest.raises(Killed):
        services.objects.put("a", b"one")
    assert aws.s3.buckets.objects["bucket"]["a"].body == b"one"
