"""Archiving: move the deltas of a published pass out of delta/, and delete their notifications.

Every move copies, then deletes. Each step runs only while the delta still has the ETag that was copied. So after a
crash each delta is pending or moved, never lost. Results describe the state afterwards, so a second run returns what
the first returned.

A merged delta may have been written again. If its merged content is in compacted/, the new content stays pending, and
MergeBatch compares the two. If not, only the outcome knows what was merged, so the new content goes to quarantine here.

A rollback can swap the pointer between the last check and the deletes if the lease is lost by then. So the pointer is
checked once more after the deletes, and deltas that should have stayed are restored to delta/.

A 404 alone does not prove that a delta was moved: for up to 15 minutes after versioning was enabled S3 may answer 404
for an object that exists (docs.aws.amazon.com/AmazonS3/latest/userguide/manage-versioning-examples.html). So a delta
counts as moved only if its copy is found, and only then it is deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.identity import has_merged_content, rewritten_error
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.deltas.quarantine import copy_into_quarantine
from chromadb_compaction.errors import (
    ObjectMissingError,
    PreconditionFailedError,
    TransientStorageError,
    UnreadableObjectError,
)
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
    execution: str,
    confirm: Callable[[], bool],
    still_published: Callable[[], bool],
    outlasts_outage: bool = False,
    deferred: Mapping[str, str] | None = None,
) -> ArchivedDeltas | None:
    """Move merged deltas to compacted/, delete quarantined ones from delta/, and delete their notifications.

    Call `confirm` between copying and deleting, and `still_published` after deleting. If either returns False, return
    None: then every merged delta is still, or again, in delta/. With `outlasts_outage` a temporary failure of a queue
    is only noted, and quarantined deltas that could not be reported stay pending. `deferred` as for Notifications.
    Raises TransientStorageError if a delta is being written again at this moment, or has been and an outage of the
    queue keeps it from being reported.
    """
    archived, replaced = _copy_to_compacted([o for o in outcomes if o.status == "merged"], services)
    quarantined = _with_quarantine_copy([o for o in outcomes if o.status == "quarantined"], services)
    if not confirm():
        return None
    quarantined += _quarantine_all_rewritten(replaced, services, execution)
    notifications = Notifications(services, outlasts_outage=outlasts_outage, deferred=deferred)
    if not notifications.send_dead_letters(quarantined):
        if replaced:
            # Only these outcomes know what was merged. The next pass would merge the other content as new.
            raise TransientStorageError(
                f"{replaced[0].key} was written again after it was merged, and the dead-letter queue does not take its"
                f" report: {notifications.error}",
                next_step="the next execution tries again",
            )
        quarantined = []
    rewritten = services.objects.delete_if({o.key: o.etag for o in (*archived, *quarantined)})
    for key in sorted(rewritten):
        log.warning("%s was written again during this clean-up and stays pending", key)
    if not still_published():
        _restore_to_pending([o for o in archived if o.key not in rewritten], services)
        return None
    for delta in replaced:
        if delta.key in rewritten:
            raise _being_rewritten(delta.key)
    moved = {o.key for o in (*archived, *quarantined)} - rewritten
    deleted = notifications.delete_notifications(moved, len(outcomes))
    return ArchivedDeltas(
        archived=sum(o.key in moved for o in archived),
        quarantined=sum(o.key in moved for o in quarantined),
        messages_deleted=deleted,
        queue_error=notifications.error,
    )


def _copy_to_compacted(
    merged: Sequence[DeltaOutcome], services: Services
) -> tuple[list[DeltaOutcome], list[DeltaOutcome]]:
    """Copy merged deltas to compacted/.

    Return those that are there now, by this run or an earlier one, and those that hold other content by now, as
    quarantined. Each has the ETag that it has in delta/.
    """
    copied = in_threads(lambda delta: _copy_one(delta, services), merged)
    return [o for o in copied if o.status == "merged"], [o for o in copied if o.status == "quarantined"]


def _copy_one(delta: DeltaOutcome, services: Services) -> DeltaOutcome:
    target = layout.compacted_key(delta.key, prefix=services.settings.delta_prefix)
    try:
        services.objects.copy(delta.key, target, etag=delta.etag)
    except ObjectMissingError:
        return _moved(delta, target, services)
    except PreconditionFailedError:
        return _copy_rewritten(delta, target, services)
    except UnreadableObjectError as error:
        return _unreadable(delta, error)
    return delta


def _moved(delta: DeltaOutcome, target: str, services: Services) -> DeltaOutcome:
    """Return a delta that S3 does not find, as it is if an earlier run has moved it to `target`, otherwise as missing.

    A missing delta is neither deleted nor counted. If it is there after all, a later pass merges it again, which
    changes nothing, and moves it.
    """
    try:
        copy = services.objects.head(target)
        if copy is not None and has_merged_content(delta.content, copy, services.objects):
            return delta
    except ObjectMissingError:
        pass
    except UnreadableObjectError as error:
        return _unreadable(delta, error)
    log.warning("%s is not found, and %s is not a copy of it; it is not deleted", delta.key, target)
    return delta.model_copy(update={"status": "missing"})


def _copy_rewritten(delta: DeltaOutcome, target: str, services: Services) -> DeltaOutcome:
    """Copy a delta that was written again if its content is still the same."""
    try:
        found = services.objects.head(delta.key)
        if found is None:
            return _moved(delta, target, services)
        now = {"etag": found.etag, "bytes": found.bytes}
        if not has_merged_content(delta.content, found, services.objects):
            reason = str(rewritten_error(delta.key))
            return delta.model_copy(update={**now, "status": "quarantined", "reason": reason, "sha256": None})
        services.objects.copy(delta.key, target, etag=found.etag)
        return delta.model_copy(update=now)
    except UnreadableObjectError as error:
        return _unreadable(delta, error)
    except (ObjectMissingError, PreconditionFailedError) as error:
        raise _being_rewritten(delta.key) from error


def _unreadable(delta: DeltaOutcome, error: UnreadableObjectError) -> DeltaOutcome:
    log.warning("%s stays pending: %s", delta.key, error)
    return delta.model_copy(update={"status": "unreadable"})


def _quarantine_all_rewritten(
    replaced: Sequence[DeltaOutcome], services: Services, execution: str
) -> list[DeltaOutcome]:
    """Copy the deltas into quarantine. Return those that are there. One that cannot be read stays pending."""
    copied = in_threads(lambda delta: _quarantine_rewritten(delta, services, execution), replaced)
    return [o for o in copied if o.status == "quarantined"]


def _quarantine_rewritten(delta: DeltaOutcome, services: Services, execution: str) -> DeltaOutcome:
    try:
        source = services.objects.head(delta.key)
        if source is None:
            quarantined = layout.quarantine_key(delta.key, prefix=services.settings.delta_prefix)
            return _moved(delta, quarantined, services)
        source = source.model_copy(update={"etag": delta.etag})
        copy_into_quarantine(delta.key, source, services, reason=delta.reason or "", execution=execution)
    except UnreadableObjectError as error:
        return _unreadable(delta, error)
    except PreconditionFailedError as error:
        raise _being_rewritten(delta.key) from error
    log.warning("%s goes to quarantine: %s", delta.key, delta.reason)
    return delta


def _being_rewritten(key: str) -> TransientStorageError:
    return TransientStorageError(
        f"{key} was merged, and is being written again while it is archived",
        next_step="stop its producer; the next execution finishes the clean-up",
    )


def _restore_to_pending(archived: Sequence[DeltaOutcome], services: Services) -> None:
    """Copy merged deltas back to delta/. If the published snapshot does hold one, merging it again changes nothing.

    Raises TransientStorageError after the others are restored, if the copy of one is not found.
    """

    def restore(delta: DeltaOutcome) -> str | None:
        if services.objects.head(delta.key) is not None:
            return None
        key = layout.compacted_key(delta.key, prefix=services.settings.delta_prefix)
        copy = services.objects.head(key)
        try:
            services.objects.copy(key, delta.key, etag=copy.etag if copy else delta.etag)
        except (ObjectMissingError, PreconditionFailedError):
            return key
        log.warning("%s is pending again: its snapshot was replaced while the delta was archived", delta.key)
        return None

    lost = [key for key in in_threads(restore, archived) if key is not None]
    if lost:
        raise TransientStorageError(
            f"{len(lost)} deltas must be pending again, because their snapshot was replaced, and S3 does not find their"
            f" copies, such as {lost[0]}",
            next_step="copy them from compacted/ to delta/, or restore their previous versions",
        )


def _with_quarantine_copy(quarantined: Sequence[DeltaOutcome], services: Services) -> list[DeltaOutcome]:
    """Return the deltas whose copy in quarantine/ exists. Only those may leave delta/."""

    def has_copy(delta: DeltaOutcome) -> bool:
        key = layout.quarantine_key(delta.key, prefix=services.settings.delta_prefix)
        copy = services.objects.head(key)
        if copy is None or not has_merged_content(delta.content, copy, services.objects):
            log.warning("%s stays pending: its copy %s is missing or incomplete", delta.key, key)
            return False
        return True

    return _filter_in_threads(has_copy, quarantined)


def _filter_in_threads(keep: Callable[[Item], bool], items: Sequence[Item]) -> list[Item]:
    """Return the items for which `keep` returns True, in order."""
    return [item for item, kept in zip(items, in_threads(keep, items), strict=True) if kept]
