"""The notification queue and its dead-letter queue in memory, with the same rules as in SQS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from chromadb_compaction.aws.delta_queue import NotificationBody, dead_letter_body, notification_key
from chromadb_compaction.ports import (
    DeadLetterMessage,
    DeltaNotification,
    QueueDepth,
    ReceivedNotification,
)

RECEIVED_AT_ONCE = 10

Hook = Callable[[str], None]
"""Called with the method's name. The method raises whatever the hook raises."""


def _nothing(_call: str) -> None:
    pass


class InMemoryDeltaQueue:
    """Messages in a dict by receipt. A received message is hidden until `make_visible_again`."""

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}
        self.dead_letters: list[str] = []
        self.calls: list[str] = []
        self.before: Hook = _nothing
        self.after: Hook = _nothing
        self._in_flight: set[str] = set()
        self._sent = 0

    def notify(self, notifications: Sequence[DeltaNotification]) -> None:
        """Send one message per notification."""
        self._begin("notify")
        for each in notifications:
            self.send(NotificationBody(key=each.key, rows=each.rows, bytes=each.bytes).model_dump_json())
        self.after("notify")

    def receive(self, limit: int) -> Iterator[Sequence[ReceivedNotification]]:
        """Yield at most `limit` visible messages, a few at a time."""
        self._begin("receive")
        visible = [receipt for receipt in self.messages if receipt not in self._in_flight][:limit]
        for start in range(0, len(visible), RECEIVED_AT_ONCE):
            receipts = visible[start : start + RECEIVED_AT_ONCE]
            self._in_flight.update(receipts)
            bodies = [self.messages[receipt] for receipt in receipts]
            yield [
                ReceivedNotification(*each)
                for each in zip(receipts, map(notification_key, bodies), bodies, strict=True)
            ]

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete received messages."""
        self._begin("delete")
        for receipt in receipts:
            self.messages.pop(receipt, None)
        self.after("delete")

    def dead_letter(self, messages: Sequence[DeadLetterMessage]) -> None:
        """Send to the dead-letter queue."""
        self._begin("dead_letter")
        self.dead_letters.extend(dead_letter_body(message) for message in messages)
        self.after("dead_letter")

    def depth(self) -> QueueDepth | None:
        """Return the depth of the notification queue."""
        self._begin("depth")
        in_flight = len(self._in_flight & self.messages.keys())
        return QueueDepth(len(self.messages) - in_flight, in_flight)

    def dead_letter_depth(self) -> QueueDepth | None:
        """Return the depth of the dead-letter queue."""
        self._begin("dead_letter_depth")
        return QueueDepth(len(self.dead_letters), 0)

    def send(self, body: str) -> None:
        """Send a message with any body, as other programs might."""
        self._sent += 1
        self.messages[f"receipt-{self._sent}"] = body

    def make_visible_again(self) -> None:
        """Make received messages visible, as after their visibility timeout."""
        self._in_flight.clear()

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        self.before(call)
