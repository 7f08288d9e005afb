"""Carrying out what a pass decided about each delta, once what it merged is published.

Every move is copy, then delete, each only while the delta still has the ETag that was merged: a delta that was
written again meanwhile stays pending, and a crash at any point leaves it pending or moved, never gone. What
counts as done is what holds afterwards, so that a second run answers as the first did.

Nothing keeps a rollback from swapping the pointer between the last look at it and the deletes, if the lease is lost
by then. So the pointer is looked at once more when they are done, and what was taken away wrongly is put back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.errors import ObjectMissingError, PreconditionFailedError
from chromadb_compaction.ports import DeadLetterMessage, ReceivedNotification, Services

SPARE_NOTICES = 1000
"""Received beyond one notice per delta: those of deltas that earlier passes moved before their notice came."""
NOTICES_AT_ONCE = 100

log = logging.getLogger(__name__)


class ArchivedDeltas(NamedTuple):
    """The deltas that are no longer pending, by where they are now, and how many notices were deleted."""

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
    """Move merged deltas to compacted/, take refused ones out of delta/, and empty the queue of their notices.

    `confirm` is asked between copying and deleting, `still_published` after that; if either says no, no merged
    delta has left delta/ or all are back, and None is returned.
    """
    archived = _copied([o for o in outcomes if o.status == "merged"], services)
    refused = _kept_in_quarantine([o for o in outcomes if o.status == "quarantined"], services)
    if not confirm():
        return None
    _report(refused, services)
    rewritten = services.objects.delete_if({o.key: o.etag for o in (*archived, *refused)})
    for key in sorted(rewritten):
        log.warning("%s was written again under the same name and stays pending", key)
    if not still_published():
        _put_back([o for o in archived if o.key not in rewritten], services)
        return None
    moved = {o.key for o in (*archived, *refused)} - rewritten
    return ArchivedDeltas(
        archived=sum(o.key in moved for o in archived),
        quarantined=sum(o.key in moved for o in refused),
        messages_deleted=_answer_notices(moved, len(outcomes) + SPARE_NOTICES, services),
    )


def _copied(merged: Sequence[DeltaOutcome], services: Services) -> list[DeltaOutcome]:
    """Return the merged deltas that stand in compacted/, all copied now unless an earlier run moved them."""

    def copied(delta: DeltaOutcome) -> bool:
        target = layout.compacted_key(delta.key, prefix=services.settings.delta_prefix)
        try:
            services.objects.copy(delta.key, target, etag=delta.etag)
        except ObjectMissingError:
            return True  # an earlier run of this clean-up moved it
        except PreconditionFailedError:
            log.warning("%s was written again under the same name and stays pending", delta.key)
            return False
        return True

    return [delta for delta, done in zip(merged, in_threads(copied, merged), strict=True) if done]


def _put_back(archived: Sequence[DeltaOutcome], services: Services) -> None:
    """Make merged deltas pending again: to merge one that was merged after all changes nothing."""

    def put_back(delta: DeltaOutcome) -> None:
        copy = services.objects.head(layout.compacted_key(delta.key, prefix=services.settings.delta_prefix))
        if copy is not None and services.objects.head(delta.key) is None:
            services.objects.copy(copy.key, delta.key, etag=copy.etag)
            log.warning("%s is pending again: its snapshot was replaced while it was moved", delta.key)

    in_threads(put_back, archived)


def _kept_in_quarantine(quarantined: Sequence[DeltaOutcome], services: Services) -> list[DeltaOutcome]:
    """Return the refused deltas whose copy in quarantine/ is there; only those may leave delta/."""

    def kept(delta: DeltaOutcome) -> bool:
        key = layout.quarantine_key(delta.key, prefix=services.settings.delta_prefix)
        copy = services.objects.head(key)
        if copy is None or copy.bytes != delta.bytes:
            log.warning("%s stays pending: its copy %s is not there", delta.key, key)
            return False
        return True

    return [delta for delta, yes in zip(quarantined, in_threads(kept, quarantined), strict=True) if yes]


def _report(refused: Sequence[DeltaOutcome], services: Services) -> None:
    """Send a letter for each refused delta that is still pending: once, or again if a crash follows right away."""
    pending = in_threads(lambda delta: services.objects.head(delta.key) is not None, refused)
    letters = [
        DeadLetterMessage(delta.key, delta.reason or "refused without a reason")
        for delta, is_pending in zip(refused, pending, strict=True)
        if is_pending
    ]
    if letters:
        services.queue.dead_letter(letters)


def _answer_notices(moved: set[str], limit: int, services: Services) -> int:
    """Delete notices of deltas that are no longer pending, and hand messages that are no notices to the DLQ."""
    deleted = 0
    for notices in _in_parts(services.queue.receive(limit), NOTICES_AT_ONCE):
        ours = [notice for notice in notices if _names_a_delta(notice, services)]
        foreign = [notice for notice in notices if not _names_a_delta(notice, services)]
        if foreign:
            services.queue.dead_letter(
                [DeadLetterMessage(None, "the message is no notice of a delta", notice.body) for notice in foreign]
            )
        spent = [*foreign, *_spent(ours, moved, services)]
        if spent:
            services.queue.delete([notice.receipt for notice in spent])
        deleted += len(spent)
    return deleted


def _names_a_delta(notice: ReceivedNotification, services: Services) -> bool:
    return notice.key is not None and notice.key.startswith(services.settings.delta_prefix)


def _spent(notices: Sequence[ReceivedNotification], moved: set[str], services: Services) -> list[ReceivedNotification]:
    """Return the notices whose delta has gone from delta/, asking S3 about those that this pass did not move."""

    def gone(notice: ReceivedNotification) -> bool:
        return notice.key in moved or services.objects.head(str(notice.key)) is None

    return [notice for notice, is_gone in zip(notices, in_threads(gone, notices), strict=True) if is_gone]


def _in_parts(notices: Iterable[ReceivedNotification], size: int) -> Iterator[list[ReceivedNotification]]:
    rest = iter(notices)
    while part := list(islice(rest, size)):
        yield part
