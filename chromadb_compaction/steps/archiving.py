"""Archiving: move the deltas of a published pass out of delta/, and delete their notifications.

Every move copies, then deletes. Each step runs only while the delta still has the ETag that was merged. So a delta
that was written again stays pending, and after a crash each delta is pending or moved, never lost. Results describe
the state afterwards, so a second run returns what the first returned.

A rollback can swap the pointer between the last check and the deletes if the lease is lost by then. So the pointer is
checked once more after the deletes, and deltas that should have stayed are restored to delta/.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.errors import ObjectMissingError, PreconditionFailedError
from chromadb_compaction.ports import DeadLetterMessage, ReceivedNotification, Services

EXTRA_NOTIFICATIONS = 1000
"""Received beyond one per delta: for deltas that earlier passes moved before their notification arrived."""
NOTIFICATIONS_AT_ONCE = 100

Item = TypeVar("Item")

log = logging.getLogger(__name__)


class ArchivedDeltas(NamedTuple):
    """The number of deltas that left delta/, by where they are now, and of notifications deleted."""

    archived: int
    quarantined: int
    messages_deleted: int


def archive(
    outcomes: Sequence[DeltaOutcome],
    services: Services,
    *,
    confirm: Callable[[], bool],
    still_published: Callable[[], bool],
) -> ArchivedDeltas | None:
    """Move merged deltas to compacted/, delete quarantined ones from delta/, and delete their notifications.

    Call `confirm` between copying and deleting, and `still_published` after deleting. If either returns False, return
    None: then every merged delta is still, or again, in delta/.
    """
    archived = _copy_to_compacted([o for o in outcomes if o.status == "merged"], services)
    quarantined = _with_quarantine_copy([o for o in outcomes if o.status == "quarantined"], services)
    if not confirm():
        return None
    _send_dead_letters(quarantined, services)
    rewritten = services.objects.delete_if({o.key: o.etag for o in (*archived, *quarantined)})
    for key in sorted(rewritten):
        _log_rewritten(key)
    if not still_published():
        _restore_to_pending([o for o in archived if o.key not in rewritten], services)
        return None
    moved = {o.key for o in (*archived, *quarantined)} - rewritten
    return ArchivedDeltas(
        archived=sum(o.key in moved for o in archived),
        quarantined=sum(o.key in moved for o in quarantined),
        messages_deleted=_delete_notifications(moved, len(outcomes) + EXTRA_NOTIFICATIONS, services),
    )


def _copy_to_compacted(merged: Sequence[DeltaOutcome], services: Services) -> list[DeltaOutcome]:
    """Copy merged deltas to compacted/. Return those that are there now, by this run or an earlier one."""

    def copy(delta: DeltaOutcome) -> bool:
        target = layout.compacted_key(delta.key, prefix=services.settings.delta_prefix)
        try:
            services.objects.copy(delta.key, target, etag=delta.etag)
        except ObjectMissingError:
            return True  # an earlier run of this clean-up moved it
        except PreconditionFailedError:
            _log_rewritten(delta.key)
            return False
        return True

    return _filter_in_threads(copy, merged)


def _log_rewritten(key: str) -> None:
    log.warning("%s was written again after it was merged and stays pending", key)


def _restore_to_pending(archived: Sequence[DeltaOutcome], services: Services) -> None:
    """Copy merged deltas back to delta/. If the published snapshot does hold one, merging it again changes nothing."""

    def restore(delta: DeltaOutcome) -> None:
        copy = services.objects.head(layout.compacted_key(delta.key, prefix=services.settings.delta_prefix))
        if copy is not None and services.objects.head(delta.key) is None:
            services.objects.copy(copy.key, delta.key, etag=copy.etag)
            log.warning("%s is pending again: its snapshot was replaced while the delta was archived", delta.key)

    in_threads(restore, archived)


def _with_quarantine_copy(quarantined: Sequence[DeltaOutcome], services: Services) -> list[DeltaOutcome]:
    """Return the deltas whose copy in quarantine/ exists. Only those may leave delta/."""

    def has_copy(delta: DeltaOutcome) -> bool:
        key = layout.quarantine_key(delta.key, prefix=services.settings.delta_prefix)
        copy = services.objects.head(key)
        if copy is None or copy.bytes != delta.bytes:
            log.warning("%s stays pending: its copy %s is missing or incomplete", delta.key, key)
            return False
        return True

    return _filter_in_threads(has_copy, quarantined)


def _send_dead_letters(quarantined: Sequence[DeltaOutcome], services: Services) -> None:
    """Send one dead-letter message per quarantined delta that is still pending. A crash right after repeats them."""
    pending = _filter_in_threads(lambda delta: services.objects.head(delta.key) is not None, quarantined)
    if pending:
        reason = "quarantined without a reason"
        services.queue.dead_letter([DeadLetterMessage(delta.key, delta.reason or reason) for delta in pending])


def _delete_notifications(moved: set[str], limit: int, services: Services) -> int:
    """Delete notifications of deltas that left delta/. Move messages that are not notifications to the DLQ."""
    deleted = 0
    for messages in _in_groups(services.queue.receive(limit), NOTIFICATIONS_AT_ONCE):
        notifications = [message for message in messages if _names_a_delta(message, services)]
        foreign = [message for message in messages if not _names_a_delta(message, services)]
        if foreign:
            services.queue.dead_letter(
                [DeadLetterMessage(None, "the message is not a delta notification", each.body) for each in foreign]
            )
        done = [*foreign, *_without_pending_delta(notifications, moved, services)]
        if done:
            services.queue.delete([message.receipt for message in done])
        deleted += len(done)
    return deleted


def _names_a_delta(message: ReceivedNotification, services: Services) -> bool:
    return message.key is not None and message.key.startswith(services.settings.delta_prefix)


def _without_pending_delta(
    notifications: Sequence[ReceivedNotification], moved: set[str], services: Services
) -> list[ReceivedNotification]:
    """Return the notifications whose delta is not in delta/. Ask S3 about deltas that this pass did not move."""

    def is_gone(notification: ReceivedNotification) -> bool:
        return notification.key in moved or services.objects.head(str(notification.key)) is None

    return _filter_in_threads(is_gone, notifications)


def _filter_in_threads(keep: Callable[[Item], bool], items: Sequence[Item]) -> list[Item]:
    """Return the items for which `keep` returns True, in order."""
    return [item for item, kept in zip(items, in_threads(keep, items), strict=True) if kept]


def _in_groups(messages: Iterable[ReceivedNotification], size: int) -> Iterator[list[ReceivedNotification]]:
    remaining = iter(messages)
    while group := list(islice(remaining, size)):
        yield group
