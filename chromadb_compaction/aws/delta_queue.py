"""The notification queue in SQS. It is a bell: the listing of delta/ is the truth, so a lost notice loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chromadb_compaction.aws.errors import translated
from chromadb_compaction.errors import TransientStorageError
from chromadb_compaction.ports import DeadLetterMessage, DeltaNotification, ReceivedNotification
from chromadb_compaction.settings import required

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef

ENTRIES_PER_CALL = 10
BYTES_PER_CALL = 200_000
"""SQS takes 256 KiB per call, all bodies together; what is left over is room for its own envelope."""
LETTER_TEXT = 8_000
"""Characters kept of a dead letter's reason and body, so that ten fit one call however they are escaped."""


class NoticeBody(BaseModel):
    """The body of a notice, format 1."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    key: str = Field(min_length=1)
    rows: int
    bytes: int


class SqsDeltaQueue:
    """ports.DeltaQueue on two queues. A queue that is not set is only missed when it is needed."""

    def __init__(self, client: SQSClient, queue_url: str | None, dlq_url: str | None) -> None:
        self._client = client
        self._queue_url = queue_url
        self._dlq_url = dlq_url

    def notify(self, notices: Sequence[DeltaNotification]) -> None:
        """Send one message per notice. Raises TransientStorageError if SQS refused any: then some may be sent."""
        bodies = (NoticeBody(key=n.key, rows=n.rows, bytes=n.bytes).model_dump_json() for n in notices)
        self._send(required(self._queue_url, "DELTA_QUEUE_URL"), bodies)

    def receive(self, limit: int) -> Iterator[ReceivedNotification]:
        """Yield at most `limit` messages without waiting for more to arrive."""
        url = required(self._queue_url, "DELTA_QUEUE_URL")
        left = limit
        while left > 0:
            with translated(f"receiving from {url}"):
                answer = self._client.receive_message(
                    QueueUrl=url, MaxNumberOfMessages=min(left, ENTRIES_PER_CALL), WaitTimeSeconds=0
                )
            messages = answer.get("Messages", [])
            if not messages:
                return
            left -= len(messages)
            for message in messages:
                yield ReceivedNotification(message["ReceiptHandle"], notice_key(message["Body"]), message["Body"])

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete received messages. One whose receipt has run out comes back, and is deleted next time."""
        url = required(self._queue_url, "DELTA_QUEUE_URL")
        for start in range(0, len(receipts), ENTRIES_PER_CALL):
            part = receipts[start : start + ENTRIES_PER_CALL]
            with translated(f"deleting from {url}"):
                answer = self._client.delete_message_batch(
                    QueueUrl=url,
                    Entries=[{"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(part)],
                )
            _check([f for f in answer.get("Failed", []) if not f["SenderFault"]], len(part), f"deleting from {url}")

    def dead_letter(self, letters: Sequence[DeadLetterMessage]) -> None:
        """Send one message per letter. Raises TransientStorageError if SQS refused any: then some may be sent."""
        self._send(required(self._dlq_url, "DELTA_DLQ_URL"), (letter_body(letter) for letter in letters))

    def _send(self, url: str, bodies: Iterable[str]) -> None:
        for part in _calls(bodies):
            with translated(f"sending to {url}"):
                answer = self._client.send_message_batch(
                    QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(part)]
                )
            _check(answer.get("Failed", []), len(part), f"sending to {url}")


def notice_key(body: str) -> str | None:
    """Return the key that a notice names, or None for a message that is no notice of ours."""
    try:
        return NoticeBody.model_validate_json(body).key
    except ValidationError:
        return None


def letter_body(letter: DeadLetterMessage) -> str:
    """Return a dead letter's JSON: format, key, reason and, for a message that was no notice, what it said."""
    fields: dict[str, object] = {"format": 1, "key": letter.key, "reason": letter.reason[:LETTER_TEXT]}
    if letter.body is not None:
        fields["body"] = letter.body[:LETTER_TEXT]
    return json.dumps(fields)


def _calls(bodies: Iterable[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for body in bodies:
        if part and (len(part) == ENTRIES_PER_CALL or size + len(body.encode()) > BYTES_PER_CALL):
            yield part
            part, size = [], 0
        part.append(body)
        size += len(body.encode())
    if part:
        yield part


def _check(failed: Sequence[BatchResultErrorEntryTypeDef], sent: int, action: str) -> None:
    """Raise for the part that SQS refused while the call as a whole succeeded."""
    if failed:
        codes = ", ".join(sorted({entry["Code"] for entry in failed}))
        raise TransientStorageError(f"{action}: {len(failed)} of {sent} messages failed ({codes}); try again")
