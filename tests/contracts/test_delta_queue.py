"""The contract of every delta queue, and the partial failures of SQS."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from typing import Any

import pytest
from botocore.stub import ANY, Stubber
from mypy_boto3_sqs import SQSClient

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.aws.delta_queue import DEAD_LETTER_CHARACTERS, SqsDeltaQueue
from chromadb_compaction.errors import CompactionError, ConfigurationError, TransientStorageError
from chromadb_compaction.ports import (
    DeadLetterMessage,
    DeltaNotification,
    DeltaQueue,
    QueueDepth,
    ReceivedNotification,
)
from tests.contracts.conftest import client_to_stub
from tests.fakes.aws.in_process import InProcessAws
from tests.fakes.queue import InMemoryDeltaQueue

Send = Callable[[str], None]
DeadLetters = Callable[[], Sequence[dict[str, Any]]]

_numbers = count()


def a_notification(number: int = 1) -> DeltaNotification:
    return DeltaNotification(f"delta/docs/{number:04d}.parquet", rows=number, bytes=100 * number)


class DeltaQueueContract:
    """Tests of any delta queue. A subclass provides three fixtures.

    `queue` is an empty queue. `send` sends any body to it. `dead_letters` returns the bodies in the dead-letter queue.
    """

    def test_a_notification_arrives(self, queue: DeltaQueue) -> None:
        queue.notify([a_notification(7)])

        (received,) = chain.from_iterable(queue.receive(10))

        assert received.key == "delta/docs/0007.parquet"
        assert json.loads(received.body) == {"format": 1, "key": "delta/docs/0007.parquet", "rows": 7, "bytes": 700}

    def test_more_notifications_than_fit_one_call_all_arrive(self, queue: DeltaQueue) -> None:
        queue.notify([a_notification(n) for n in range(25)])

        assert {notification.key for notification in chain.from_iterable(queue.receive(100))} == {
            a_notification(n).key for n in range(25)
        }

    def test_notifying_of_nothing_sends_nothing(self, queue: DeltaQueue) -> None:
        queue.notify([])

        assert list(chain.from_iterable(queue.receive(10))) == []

    @pytest.mark.parametrize("limit", [1, 10, 13])
    def test_at_most_the_limit_is_received(self, queue: DeltaQueue, limit: int) -> None:
        queue.notify([a_notification(n) for n in range(25)])

        assert len(list(chain.from_iterable(queue.receive(limit)))) == limit

    def test_a_received_message_is_not_received_again_immediately(self, queue: DeltaQueue) -> None:
        queue.notify([a_notification()])
        list(chain.from_iterable(queue.receive(10)))

        assert list(chain.from_iterable(queue.receive(10))) == []

    def test_deleted_messages_are_not_received_again(
        self, queue: DeltaQueue, expire_visibility: Callable[[Sequence[ReceivedNotification]], None]
    ) -> None:
        queue.notify([a_notification(n) for n in range(12)])
        received = list(chain.from_iterable(queue.receive(100)))

        queue.delete([notification.receipt for notification in received if notification.key != a_notification(5).key])
        expire_visibility([notification for notification in received if notification.key == a_notification(5).key])

        assert [notification.key for notification in chain.from_iterable(queue.receive(100))] == [a_notification(5).key]

    def test_the_depths_count_waiting_and_received_messages(self, queue: DeltaQueue) -> None:
        queue.notify([a_notification(n) for n in range(3)])
        queue.dead_letter([DeadLetterMessage(None, "why")])
        list(chain.from_iterable(queue.receive(1)))

        assert queue.depth() == QueueDepth(messages=2, in_flight=1)
        assert queue.dead_letter_depth() == QueueDepth(1, 0)

    def test_deleting_nothing_is_not_an_error(self, queue: DeltaQueue) -> None:
        queue.delete([])

    def test_deleting_twice_is_not_an_error(self, queue: DeltaQueue) -> None:
        queue.notify([a_notification()])
        receipts = [notification.receipt for notification in chain.from_iterable(queue.receive(10))]

        queue.delete(receipts)
        queue.delete(receipts)

    @pytest.mark.parametrize(
        "body",
        [
            "hello",
            "[]",
            "{}",
            '{"format": 2, "key": "delta/docs/a.parquet", "rows": 1, "bytes": 1}',
            '{"format": 1, "key": "", "rows": 1, "bytes": 1}',
            '{"Records": [{"eventName": "ObjectCreated:Put"}]}',
        ],
    )
    def test_a_message_that_is_not_a_notification_has_no_key_and_keeps_its_body(
        self, queue: DeltaQueue, send: Send, body: str
    ) -> None:
        send(body)

        (received,) = chain.from_iterable(queue.receive(10))

        assert (received.key, received.body) == (None, body)

    def test_an_unknown_field_is_ignored(self, queue: DeltaQueue, send: Send) -> None:
        send('{"format": 1, "key": "delta/docs/a.parquet", "rows": 1, "bytes": 1, "producer": "x"}')

        (received,) = chain.from_iterable(queue.receive(10))

        assert received.key == "delta/docs/a.parquet"

    def test_a_dead_letter_message_names_the_delta_and_the_reason(
        self, queue: DeltaQueue, dead_letters: DeadLetters
    ) -> None:
        queue.dead_letter([DeadLetterMessage("delta/docs/a.parquet", "row 3 holds NaN")])

        assert dead_letters() == [{"format": 1, "key": "delta/docs/a.parquet", "reason": "row 3 holds NaN"}]

    def test_a_dead_letter_message_for_a_message_that_was_not_a_notification_has_its_body(
        self, queue: DeltaQueue, dead_letters: DeadLetters
    ) -> None:
        queue.dead_letter([DeadLetterMessage(None, "the message is not a delta notification", "hello")])

        assert dead_letters() == [
            {"format": 1, "key": None, "reason": "the message is not a delta notification", "body": "hello"}
        ]

    def test_many_long_dead_letter_messages_all_arrive_shortened(
        self, queue: DeltaQueue, dead_letters: DeadLetters
    ) -> None:
        queue.dead_letter(
            [DeadLetterMessage(f"delta/docs/{n}.parquet", "é" * 100_000, "é" * 100_000) for n in range(12)]
        )

        arrived = dead_letters()

        assert len(arrived) == 12
        assert all(message["reason"] == message["body"] == "é" * DEAD_LETTER_CHARACTERS for message in arrived)


class TestInMemoryDeltaQueue(DeltaQueueContract):
    @pytest.fixture
    def queue(self) -> InMemoryDeltaQueue:
        return InMemoryDeltaQueue()

    @pytest.fixture
    def send(self, queue: InMemoryDeltaQueue) -> Send:
        return queue.send

    @pytest.fixture
    def dead_letters(self, queue: InMemoryDeltaQueue) -> DeadLetters:
        return lambda: [json.loads(body) for body in queue.dead_letters]

    @pytest.fixture
    def expire_visibility(self, queue: InMemoryDeltaQueue) -> Callable[[Sequence[ReceivedNotification]], None]:
        return lambda _received: queue.make_visible_again()


class SqsDeltaQueueContract(DeltaQueueContract):
    """Tests through boto3. A subclass provides the fixture `sqs`."""

    @pytest.fixture
    def urls(self, sqs: SQSClient) -> Iterator[tuple[str, str]]:
        number = next(_numbers)
        created = [
            sqs.create_queue(QueueName=f"delta-queue-contract-{number}{end}")["QueueUrl"] for end in ("", "-dlq")
        ]
        yield created[0], created[1]
        for url in created:
            sqs.delete_queue(QueueUrl=url)

    @pytest.fixture
    def queue(self, sqs: SQSClient, urls: tuple[str, str]) -> SqsDeltaQueue:
        return SqsDeltaQueue(sqs, *urls)

    @pytest.fixture
    def send(self, sqs: SQSClient, urls: tuple[str, str]) -> Send:
        def send(body: str) -> None:
            sqs.send_message(QueueUrl=urls[0], MessageBody=body)

        return send

    @pytest.fixture
    def dead_letters(self, sqs: SQSClient, urls: tuple[str, str]) -> DeadLetters:
        def read_dead_letters() -> Sequence[dict[str, Any]]:
            bodies: list[str] = []
            while messages := sqs.receive_message(QueueUrl=urls[1], MaxNumberOfMessages=10, WaitTimeSeconds=1).get(
                "Messages"
            ):
                bodies.extend(message["Body"] for message in messages)
            return [json.loads(body) for body in bodies]

        return read_dead_letters

    @pytest.fixture
    def expire_visibility(
        self, sqs: SQSClient, urls: tuple[str, str]
    ) -> Callable[[Sequence[ReceivedNotification]], None]:
        def expire(received: Sequence[ReceivedNotification]) -> None:
            for notification in received:
                sqs.change_message_visibility(QueueUrl=urls[0], ReceiptHandle=notification.receipt, VisibilityTimeout=0)

        return expire

    def test_the_error_for_a_missing_queue_names_its_setting(self, sqs: SQSClient, urls: tuple[str, str]) -> None:
        with pytest.raises(ConfigurationError, match="DELTA_QUEUE_URL"):
            list(chain.from_iterable(SqsDeltaQueue(sqs, urls[0] + "-nowhere", None).receive(1)))

    def test_the_error_for_an_unset_queue_names_its_setting(self, sqs: SQSClient) -> None:
        queue = SqsDeltaQueue(sqs, None, None)

        with pytest.raises(ConfigurationError, match="DELTA_QUEUE_URL is not set"):
            queue.notify([a_notification()])
        assert queue.depth() is None
        assert queue.dead_letter_depth() is None
        with pytest.raises(ConfigurationError, match="DELTA_DLQ_URL is not set"):
            queue.dead_letter([DeadLetterMessage(None, "why")])


class TestSqsDeltaQueue(SqsDeltaQueueContract):
    """Against the local server."""


class TestSqsInProcess(SqsDeltaQueueContract):
    @pytest.fixture
    def sqs(self) -> SQSClient:
        return InProcessAws().session().client("sqs", config=client_config())


class TestErrorsOfSqs:
    """Errors forced with botocore's stubber."""

    @pytest.fixture
    def client(self) -> SQSClient:
        client: SQSClient = client_to_stub("sqs")
        return client

    @pytest.fixture
    def stubber(self, client: SQSClient) -> Iterator[Stubber]:
        with Stubber(client) as stubber:
            yield stubber
            stubber.assert_no_pending_responses()

    @pytest.fixture
    def queue(self, client: SQSClient) -> SqsDeltaQueue:
        return SqsDeltaQueue(client, "https://sqs/queue", "https://sqs/dlq")

    def test_the_error_for_a_partly_failed_send_says_how_many_messages_failed(
        self, stubber: Stubber, queue: SqsDeltaQueue
    ) -> None:
        stubber.add_response(
            "send_message_batch",
            {
                "Successful": [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": "5d41402abc4b2a76b9719d911017c592"}],
                "Failed": [{"Id": "1", "SenderFault": False, "Code": "InternalError"}],
            },
        )

        with pytest.raises(TransientStorageError, match=r"1 of 2 messages failed \(InternalError\)"):
            queue.notify([a_notification(1), a_notification(2)])

    def test_a_failed_delete_is_an_error(self, stubber: Stubber, queue: SqsDeltaQueue) -> None:
        stubber.add_response(
            "delete_message_batch",
            {"Successful": [], "Failed": [{"Id": "0", "SenderFault": False, "Code": "InternalError"}]},
        )

        with pytest.raises(TransientStorageError, match="1 of 1"):
            queue.delete(["receipt"])

    def test_an_expired_receipt_is_not_an_error(self, stubber: Stubber, queue: SqsDeltaQueue) -> None:
        stubber.add_response(
            "delete_message_batch",
            {"Successful": [], "Failed": [{"Id": "0", "SenderFault": True, "Code": "ReceiptHandleIsInvalid"}]},
        )

        queue.delete(["receipt"])

    def test_notifications_are_sent_ten_at_a_time(self, stubber: Stubber, queue: SqsDeltaQueue) -> None:
        for size in (10, 10, 5):
            entries = [{"Id": str(n), "MessageBody": ANY} for n in range(size)]
            stubber.add_response(
                "send_message_batch",
                {"Successful": [], "Failed": []},
                {"QueueUrl": "https://sqs/queue", "Entries": entries},
            )

        queue.notify([a_notification(n) for n in range(25)])

    @pytest.mark.parametrize(
        ("code", "status", "expected"),
        [
            ("RequestThrottled", 403, TransientStorageError),
            ("InternalError", 500, TransientStorageError),
            ("AccessDenied", 403, ConfigurationError),
        ],
    )
    def test_each_error_code_has_its_error_class(
        self, stubber: Stubber, queue: SqsDeltaQueue, code: str, status: int, expected: type[CompactionError]
    ) -> None:
        stubber.add_client_error("receive_message", code, http_status_code=status)

        with pytest.raises(expected, match=code):
            list(chain.from_iterable(queue.receive(1)))
