"""Archiving: move the deltas of a published pass out of delta/, and delete their notifications.

Every move copies, then deletes. Each step runs only while the delta still has the ETag that was merged. So a delta
that was written again stays pending, and after a crash each delta is pending or moved, never lost. Results describe
the state afterwards, so a second run returns what the first returned.

A rollback can swap the pointer between the last check and the deletes if the lease is lost by then. So the pointer is
checked once more after the deletes, and deltas that should have stayed are restored to delta/.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.errors import ObjectMissingError, PreconditionFailedError, UnreadableObjectError
from chromadb_compaction.ports import Services
from chromadb_compaction.steps.notifications import Notifications

Item = TypeVar("Item")

log = logging.getLogger(__name__)


class ArchivedDeltas(NamedTuple):
    """The number of deltas that left delta/, by where they are now, and of notifications deleted.

    `queue_error` is the error of a queue that could not be used. None if both could.
    """

    archived: int
    quarantined: int
    messages_deleted: int
    queue_error: str | None = None


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
    notifications = Notifications(services)
    notifications.send_dead_letters(quarantined)
    rewritten = services.objects.delete_if({o.key: o.etag for o in (*archived, *quarantined)})
    for key in sorted(rewritten):
        _log_rewritten(key)
    if not still_published():
        _restore_to_pending([o for o in archived if o.key not in rewritten], services)
        return None
    moved = {o.key for o in (*archived, *quarantined)} - rewritten
    deleted = notifications.delete_notifications(moved, len(outcomes))
    return ArchivedDeltas(
        archived=sum(o.key in moved for o in archived),
        quarantined=sum(o.key in moved for o in quarantined),
        messages_deleted=deleted,
        queue_error=notifications.error,
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
        except UnreadableObjectError as error:
            log.warning("%s stays pending: %s", delta.key, error)
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


def _filter_in_threads(keep: Callable[[Item], bool], items: Sequence[Item]) -> list[Item]:
    """Return the items for which `keep` returns True, in order."""
    return [item for item, kept in zip(items, in_threads(keep, items), strict=True) if kept]
