"""What every delta queue holds to, and how SQS's partial failures come out."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import ANY, Stubber
from mypy_boto3_sqs import SQSClient

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.aws.delta_queue import LETTER_TEXT, SqsDeltaQueue
from chromadb_compaction.errors import CompactionError, ConfigurationError, TransientStorageError
from chromadb_compaction.ports import DeadLetterMessage, DeltaNotification, DeltaQueue, ReceivedNotification
from tests.fakes.aws.in_process import InProcessAws
from tests.fakes.queue import InMemoryDeltaQueue

Send = Callable[[str], None]
Letters = Callable[[], Sequence[dict[str, Any]]]

_numbers = count()


def a_notice(number: int = 1) -> DeltaNotification:
    return DeltaNotification(f"delta/docs/{number:04d}.parquet", rows=number, bytes=100 * number)


class DeltaQueueContract:
    """Inherit, and give `queue`: an empty one, `send`: as a stranger sends, `letters`: what the DLQ got."""

    def test_a_notice_arrives(self, queue: DeltaQueue) -> None:
        queue.notify([a_notice(7)])

        (received,) = queue.receive(10)

        assert received.key == "delta/docs/0007.parquet"
        assert json.loads(received.body) == {"format": 1, "key": "delta/docs/0007.parquet", "rows": 7, "bytes": 700}

    def test_more_notices_than_one_call_takes_all_arrive(self, queue: DeltaQueue) -> None:
        queue.notify([a_notice(n) for n in range(25)])

        assert {notice.key for notice in queue.receive(100)} == {a_notice(n).key for n in range(25)}

    def test_no_notice_is_no_call(self, queue: DeltaQueue) -> None:
        queue.notify([])

        assert list(queue.receive(10)) == []

    @pytest.mark.parametrize("limit", [1, 10, 13])
    def test_no_more_is_received_than_asked_for(self, queue: DeltaQueue, limit: int) -> None:
        queue.notify([a_notice(n) for n in range(25)])

        assert len(list(queue.receive(limit))) == limit

    def test_a_received_message_is_not_received_again_at_once(self, queue: DeltaQueue) -> None:
        queue.notify([a_notice()])
        list(queue.receive(10))

        assert list(queue.receive(10)) == []

    def test_deleted_messages_are_gone(
        self, queue: DeltaQueue, let_visibility_time_out: Callable[[Sequence[ReceivedNotification]], None]
    ) -> None:
        queue.notify([a_notice(n) for n in range(12)])
        received = list(queue.receive(100))

        queue.delete([notice.receipt for notice in received if notice.key != a_notice(5).key])
        let_visibility_time_out([notice for notice in received if notice.key == a_notice(5).key])

        assert [notice.key for notice in queue.receive(100)] == [a_notice(5).key]

    def test_deleting_nothing_is_no_error(self, queue: DeltaQueue) -> None:
        queue.delete([])

    def test_deleting_twice_is_no_error(self, queue: DeltaQueue) -> None:
        queue.notify([a_notice()])
        receipts = [notice.receipt for notice in queue.receive(10)]

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
    def test_a_message_that_is_no_notice_has_no_key_and_keeps_its_body(
        self, queue: DeltaQueue, send: Send, body: str
    ) -> None:
        send(body)

        (received,) = queue.receive(10)

        assert (received.key, received.body) == (None, body)

    def test_a_later_programs_extra_field_does_no_harm(self, queue: DeltaQueue, send: Send) -> None:
        send('{"format": 1, "key": "delta/docs/a.parquet", "rows": 1, "bytes": 1, "producer": "x"}')

        (received,) = queue.receive(10)

        assert received.key == "delta/docs/a.parquet"

    def test_a_dead_letter_says_which_delta_and_why(self, queue: DeltaQueue, letters: Letters) -> None:
        queue.dead_letter([DeadLetterMessage("delta/docs/a.parquet", "row 3 holds NaN")])

        assert letters() == [{"format": 1, "key": "delta/docs/a.parquet", "reason": "row 3 holds NaN"}]

    def test_a_foreign_messages_letter_says_what_it_said(self, queue: DeltaQueue, letters: Letters) -> None:
        queue.dead_letter([DeadLetterMessage(None, "the message is no notice of a delta", "hello")])

        assert letters() == [
            {"format": 1, "key": None, "reason": "the message is no notice of a delta", "body": "hello"}
        ]

    def test_many_long_letters_all_arrive_shortened(self, queue: DeltaQueue, letters: Letters) -> None:
        queue.dead_letter(
            [DeadLetterMessage(f"delta/docs/{n}.parquet", "é" * 100_000, "é" * 100_000) for n in range(12)]
        )

        arrived = letters()

        assert len(arrived) == 12
        assert all(letter["reason"] == letter["body"] == "é" * LETTER_TEXT for letter in arrived)


class TestInMemoryDeltaQueue(DeltaQueueContract):
    @pytest.fixture
    def queue(self) -> InMemoryDeltaQueue:
        return InMemoryDeltaQueue()

    @pytest.fixture
    def send(self, queue: InMemoryDeltaQueue) -> Send:
        return queue.send

    @pytest.fixture
    def letters(self, queue: InMemoryDeltaQueue) -> Letters:
        return lambda: [json.loads(letter) for letter in queue.dead_letters]

    @pytest.fixture
    def let_visibility_time_out(self, queue: InMemoryDeltaQueue) -> Callable[[Sequence[ReceivedNotification]], None]:
        return lambda _received: queue.make_visible_again()


class SqsDeltaQueueContract(DeltaQueueContract):
    """Through boto3: give the fixture `sqs`."""

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
    def letters(self, sqs: SQSClient, urls: tuple[str, str]) -> Letters:
        def letters() -> Sequence[dict[str, Any]]:
            bodies: list[str] = []
            while messages := sqs.receive_message(QueueUrl=urls[1], MaxNumberOfMessages=10).get("Messages"):
                bodies.extend(message["Body"] for message in messages)
            return [json.loads(body) for body in bodies]

        return letters

    @pytest.fixture
    def let_visibility_time_out(
        self, sqs: SQSClient, urls: tuple[str, str]
    ) -> Callable[[Sequence[ReceivedNotification]], None]:
        def let_time_out(received: Sequence[ReceivedNotification]) -> None:
            for notice in received:
                sqs.change_message_visibility(QueueUrl=urls[0], ReceiptHandle=notice.receipt, VisibilityTimeout=0)

        return let_time_out

    def test_a_queue_that_does_not_exist_is_a_mistake_in_the_settings(
        self, sqs: SQSClient, urls: tuple[str, str]
    ) -> None:
        with pytest.raises(ConfigurationError, match="DELTA_QUEUE_URL"):
            list(SqsDeltaQueue(sqs, urls[0] + "-nowhere", None).receive(1))

    def test_a_queue_that_is_not_set_is_asked_for_by_name(self, sqs: SQSClient) -> None:
        queue = SqsDeltaQueue(sqs, None, None)

        with pytest.raises(ConfigurationError, match="DELTA_QUEUE_URL is not set"):
            queue.notify([a_notice()])
        with pytest.raises(ConfigurationError, match="DELTA_DLQ_URL is not set"):
            queue.dead_letter([DeadLetterMessage(None, "why")])


class TestSqsDeltaQueue(SqsDeltaQueueContract):
    """Against the local server."""


class TestSqsInProcess(SqsDeltaQueueContract):
    @pytest.fixture
    def sqs(self) -> SQSClient:
        return InProcessAws().session().client("sqs", config=client_config())


class TestErrorsOfSqs:
    """Forced with botocore's stubber."""

    @pytest.fixture
    def client(self) -> SQSClient:
        return boto3.client(
            "sqs",
            region_name="eu-west-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=Config(retries={"max_attempts": 0}),
        )

    @pytest.fixture
    def stubber(self, client: SQSClient) -> Iterator[Stubber]:
        with Stubber(client) as stubber:
            yield stubber
            stubber.assert_no_pending_responses()

    @pytest.fixture
    def queue(self, client: SQSClient) -> SqsDeltaQueue:
        return SqsDeltaQueue(client, "https://sqs/queue", "https://sqs/dlq")

    def test_a_send_that_fails_in_part_is_a_failure_that_names_the_share(
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
            queue.notify([a_notice(1), a_notice(2)])

    def test_a_delete_that_sqs_could_not_do_is_a_failure(self, stubber: Stubber, queue: SqsDeltaQueue) -> None:
        stubber.add_response(
            "delete_message_batch",
            {"Successful": [], "Failed": [{"Id": "0", "SenderFault": False, "Code": "InternalError"}]},
        )

        with pytest.raises(TransientStorageError, match="1 of 1"):
            queue.delete(["receipt"])

    def test_a_receipt_that_has_run_out_is_left_to_the_next_clean_up(
        self, stubber: Stubber, queue: SqsDeltaQueue
    ) -> None:
        stubber.add_response(
            "delete_message_batch",
            {"Successful": [], "Failed": [{"Id": "0", "SenderFault": True, "Code": "ReceiptHandleIsInvalid"}]},
        )

        queue.delete(["receipt"])

    def test_notices_are_sent_in_tens(self, stubber: Stubber, queue: SqsDeltaQueue) -> None:
        for size in (10, 10, 5):
            entries = [{"Id": str(n), "MessageBody": ANY} for n in range(size)]
            stubber.add_response(
                "send_message_batch",
                {"Successful": [], "Failed": []},
                {"QueueUrl": "https://sqs/queue", "Entries": entries},
            )

        queue.notify([a_notice(n) for n in range(25)])

    @pytest.mark.parametrize(
        ("code", "status", "ours"),
        [
            ("RequestThrottled", 403, TransientStorageError),
            ("InternalError", 500, TransientStorageError),
            ("AccessDenied", 403, ConfigurationError),
        ],
    )
    def test_errors_are_told_apart(
        self, stubber: Stubber, queue: SqsDeltaQueue, code: str, status: int, ours: type[CompactionError]
    ) -> None:
        stubber.add_client_error("receive_message", code, http_status_code=status)

        with pytest.raises(ours, match=code):
            list(queue.receive(1))
