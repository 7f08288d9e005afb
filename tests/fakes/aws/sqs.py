"""The SQS operations that the product and its tests use, for standard queues with a visibility timeout."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.fakes.aws.protocol import Answer, Refusal, answer_json

VISIBILITY_SECONDS = 30


class Message(NamedTuple):
    """A message. It is never changed, only replaced, and can be received from `visible_at` on."""

    body: str
    visible_at: float
    receives: int = 0


@dataclass
class Queues:
    """All queues by name. Each has its messages by id, oldest first."""

    messages: dict[str, dict[str, Message]] = field(default_factory=dict)
    sent: int = 0

    def copy(self) -> Queues:
        """Return a copy that later writes do not change."""
        return Queues({name: dict(held) for name, held in self.messages.items()}, self.sent)


class Sqs:
    """A fake SQS. `clock` decides which messages are visible."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.queues = Queues()
        self._clock = clock

    def answer(self, operation: str, asked: Mapping[str, Any]) -> Answer:
        """Carry out one request. Raises Refusal."""
        name = queue_name(asked)
        if operation == "CreateQueue":
            self.queues.messages.setdefault(name, {})
            return answer_json({"QueueUrl": f"https://sqs.eu-west-1.amazonaws.com/000000000000/{name}"})
        if name not in self.queues.messages:
            raise Refusal(400, "com.amazonaws.sqs#QueueDoesNotExist")
        if operation == "DeleteQueue":
            del self.queues.messages[name]
            return answer_json({})
        return answer_json(self._on_messages(operation, asked, self.queues.messages[name]))

    def _on_messages(self, operation: str, asked: Mapping[str, Any], held: dict[str, Message]) -> Mapping[str, Any]:
        if operation == "SendMessage":
            return self._send(asked["MessageBody"], held)
        if operation == "SendMessageBatch":
            sent = [{"Id": entry["Id"], **self._send(entry["MessageBody"], held)} for entry in asked["Entries"]]
            return {"Successful": sent, "Failed": []}
        if operation == "ReceiveMessage":
            # A short poll may miss every message. Here it always does.
            most = asked.get("MaxNumberOfMessages", 1) if asked.get("WaitTimeSeconds") else 0
            return {"Messages": self._receive(held, most)}
        if operation == "DeleteMessageBatch":
            return {"Successful": _delete(asked["Entries"], held), "Failed": []}
        if operation == "ChangeMessageVisibility":
            self._hide(held, asked["ReceiptHandle"], asked["VisibilityTimeout"])
            return {}
        if operation == "GetQueueAttributes":
            return {"Attributes": self._depth(held)}
        raise NotImplementedError(operation)

    def _depth(self, held: dict[str, Message]) -> dict[str, str]:
        visible = sum(message.visible_at <= self._clock() for message in held.values())
        return {
            "ApproximateNumberOfMessages": str(visible),
            "ApproximateNumberOfMessagesNotVisible": str(len(held) - visible),
        }

    def _send(self, body: str, held: dict[str, Message]) -> dict[str, str]:
        self.queues.sent += 1
        message = f"message-{self.queues.sent:06d}"
        held[message] = Message(body, self._clock())
        return {"MessageId": message, "MD5OfMessageBody": _md5(body)}

    def _receive(self, held: dict[str, Message], limit: int) -> list[dict[str, str]]:
        now = self._clock()
        received: list[dict[str, str]] = []
        for name in [name for name, message in held.items() if message.visible_at <= now][:limit]:
            body, receives = held[name].body, held[name].receives + 1
            held[name] = Message(body, now + VISIBILITY_SECONDS, receives)
            receipt = f"{name}/{receives}"
            received.append({"MessageId": name, "ReceiptHandle": receipt, "Body": body, "MD5OfBody": _md5(body)})
        return received

    def _hide(self, held: dict[str, Message], receipt: str, seconds: float) -> None:
        name = _message_of(receipt)
        held[name] = held[name]._replace(visible_at=self._clock() + seconds)


def queue_name(asked: Mapping[str, Any]) -> str:
    """Return the name of the request's queue."""
    return str(asked.get("QueueName") or asked["QueueUrl"].rpartition("/")[2])


def _delete(entries: Sequence[Mapping[str, str]], held: dict[str, Message]) -> list[dict[str, str]]:
    for entry in entries:
        held.pop(_message_of(entry["ReceiptHandle"]), None)
    return [{"Id": entry["Id"]} for entry in entries]


def _message_of(receipt: str) -> str:
    return receipt.partition("/")[0]


def _md5(body: str) -> str:
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
