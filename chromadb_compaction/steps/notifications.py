"""The messages about archived deltas: dead letters for quarantined ones, and notifications that are answered.

The queues only notify: a delta and its reason are in the bucket. So a queue that is deleted, forbidden or full is
logged and reported, and the clean-up goes on. A temporary failure is raised, because a retry sends what is missing. But
in a clean-up that has failed before, it may be an outage, which must not stop the compaction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.errors import CompactionError, TransientStorageError, UnreadableObjectError
from chromadb_compaction.ports import DeadLetterMessage, ReceivedNotification, Services

EXTRA_NOTIFICATIONS = 1000
"""Received beyond one per delta: for deltas that earlier passes moved before their notification arrived."""
LEFTOVERS = 10_000
"""Received at most by an execution that finds nothing to merge."""
ANSWERED_SECONDS = 3600
"""A delta of that age was in the listing, whatever the clocks say. If nothing can be merged, it is set aside."""

log = logging.getLogger(__name__)


class Notifications:
    """The queues during one clean-up. `error` is the first error that a queue raised, None if there was none.

    Args:
        services: The queues, and the bucket, which decides whether a delta is still pending.
        outlasts_outage: Go on after a temporary failure too, and do not use the queues again.
        deferred: The collections that wait, each with its greatest key. The listing has seen these deltas, so their
            notifications have done their work.
    """

    def __init__(
        self, services: Services, *, outlasts_outage: bool = False, deferred: Mapping[str, str] | None = None
    ) -> None:
        self.error: str | None = None
        self._outlasts_outage = outlasts_outage
        self._is_down = False
        self._deferred = deferred or {}
        self._services = services

    def send_dead_letters(self, quarantined: Sequence[DeltaOutcome]) -> bool:
        """Send one dead-letter message per quarantined delta that is pending. A crash right after repeats them.

        Return False if an outage prevents it: then they must stay pending, so that a later pass reports them.
        """
        pending = in_threads(lambda delta: _is_pending(delta.key, self._services), quarantined)
        reason = "quarantined without a reason"
        self._dead_letter(
            [
                DeadLetterMessage(delta.key, delta.reason or reason)
                for delta, is_pending in zip(quarantined, pending, strict=True)
                if is_pending
            ]
        )
        return not self._is_down

    def delete_notifications(self, moved: set[str], outcomes: int) -> int:
        """Delete notifications of deltas that left delta/. Move messages that are not notifications to the DLQ.

        Args:
            moved: The keys that this clean-up moved. S3 knows about the others.
            outcomes: The number of deltas of the pass.

        Returns:
            The number of messages deleted.
        """
        extra = LEFTOVERS if self._deferred else EXTRA_NOTIFICATIONS
        return self._delete_answered(outcomes + extra, moved)

    def _delete_answered(self, limit: int, moved: AbstractSet[str], answered: float = 0.0) -> int:
        """Delete those of at most `limit` messages whose delta was moved, or was written before `answered`."""
        deleted, awaited = 0, set(moved)
        for messages in self._receive(limit):
            notifications = [message for message in messages if self._names_a_delta(message)]
            foreign = [message for message in messages if not self._names_a_delta(message)]
            moved_away = self._dead_letter(
                [DeadLetterMessage(None, "the message is not a delta notification", each.body) for each in foreign]
            )
            done = [*(foreign if moved_away else []), *self._without_pending_delta(notifications, moved, answered)]
            deleted += self._delete(done)
            if awaited:
                awaited.difference_update(str(each.key) for each in messages)
                # To find nothing in the queue takes a long poll of a second.
                if not awaited and self._is_empty():
                    break
        return deleted

    def delete_leftovers(self) -> int:
        """Delete the notifications that are left although no pending delta can be merged. Return their number.

        They are of deltas that were moved while their notification was received by another execution, and of deltas
        that are set aside or deferred. As long as they stay, the alarm that starts a compaction early stays in ALARM,
        and an alarm that does not change its state starts nothing.
        """
        answered = self._services.clock() - ANSWERED_SECONDS
        return self._delete_answered(LEFTOVERS, frozenset(), answered)

    def _names_a_delta(self, message: ReceivedNotification) -> bool:
        return message.key is not None and message.key.startswith(self._services.settings.delta_prefix)

    def _without_pending_delta(
        self, notifications: Sequence[ReceivedNotification], moved: AbstractSet[str], answered: float
    ) -> list[ReceivedNotification]:
        def is_done(notification: ReceivedNotification) -> bool:
            key = str(notification.key)
            collection = layout.collection_of_key(key, prefix=self._services.settings.delta_prefix)
            listed = key <= self._deferred.get(collection, "")
            return listed or key in moved or not _is_pending(key, self._services, since=answered)

        done = in_threads(is_done, notifications)
        return [each for each, is_done in zip(notifications, done, strict=True) if is_done]

    def _is_empty(self) -> bool:
        """Return whether the queue says that no message waits. If it is wrong, a later pass receives the rest."""
        if self._is_down:
            return False
        with self._noting_errors():
            depth = self._services.queue.depth()
            return depth is not None and depth.messages == 0
        return False

    def _receive(self, limit: int) -> Iterator[Sequence[ReceivedNotification]]:
        if self._is_down:
            return
        with self._noting_errors():
            yield from self._services.queue.receive(limit)

    def _delete(self, done: Sequence[ReceivedNotification]) -> int:
        if not done or self._is_down:
            return 0
        with self._noting_errors():
            self._services.queue.delete([message.receipt for message in done])
            return len(done)
        return 0

    def _dead_letter(self, messages: Sequence[DeadLetterMessage]) -> bool:
        """Send the messages. Return whether the dead-letter queue has them."""
        if not messages or self._is_down:
            return not messages
        with self._noting_errors():
            self._services.queue.dead_letter(messages)
            return True
        return False

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except CompactionError as error:
            if isinstance(error, TransientStorageError):
                if not self._outlasts_outage:
                    raise
                self._is_down = True
            self.error = self.error or str(error)
            log.warning("the clean-up goes on without a queue: %s", error)


def _is_pending(key: str, services: Services, *, since: float = 0.0) -> bool:
    """Return whether the delta is in delta/ and was written after `since`, in Unix seconds."""
    try:
        found = services.objects.head(key)
    except UnreadableObjectError:
        return True
    return found is not None and found.modified >= since
