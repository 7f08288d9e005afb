"""What `status` gathers: one look at every part of the system, a few cheap requests each."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from chromadb_compaction.cli.executions.client import Execution, latest
from chromadb_compaction.deltas.quarantine import read_reason
from chromadb_compaction.errors import ObjectMissingError, SnapshotCorruptError
from chromadb_compaction.layout import (
    QUARANTINE_PREFIX,
    execution_name,
    is_delta,
    is_folder_marker,
    pending_key,
    reason_key,
)
from chromadb_compaction.lease import Lease
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

SHOWN = 5
"""How many executions and reasons fit the screen."""


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class LeaseView(_View):
    """The lock as it is held, or was left behind."""

    owner: str
    execution: str
    expired: bool
    held_seconds: float
    since_heartbeat_seconds: float
    expires_in_seconds: float


class CollectionView(_View):
    """One collection of the published snapshot."""

    collection: str
    records: int
    dimension: int | None
    space: str
    bytes: int


class SnapshotView(_View):
    """The published snapshot."""

    snapshot_id: str
    age_seconds: float
    records: int
    bytes: int
    collections: list[CollectionView]


class PendingView(_View):
    """What the next execution finds. `oldest_seconds` is None when nothing is pending."""

    deltas: int
    bytes: int
    oldest_seconds: float | None


class RefusedView(_View):
    """One quarantined delta, under the key it was written to."""

    delta: str
    reason: str


class QuarantineView(_View):
    """What was refused; `latest` holds the newest first."""

    deltas: int
    latest: list[RefusedView]


class QueueView(_View):
    """A queue's approximate depth."""

    messages: int
    in_flight: int


class Overview(_View):
    """The whole screen. What is not configured is None; `snapshot_corrupt` says why there is no `snapshot`."""

    lease: LeaseView | None
    snapshot: SnapshotView | None
    snapshot_corrupt: str | None
    pending: PendingView
    quarantine: QuarantineView
    queue: QueueView | None
    dead_letters: QueueView | None
    state_machine: str | None
    executions: list[Execution]


def look(services: Services, sqs: SQSClient, step_functions: SFNClient) -> Overview:
    """Gather everything that the environment has a name for."""
    settings, now = services.settings, services.clock()
    machine = settings.state_machine_arn
    lease = services.leases.read(settings.lock_id) if settings.dynamodb_table else None
    snapshot, corrupt = None, None
    try:
        snapshot = _snapshot(services, now)
    except SnapshotCorruptError as error:
        # Whoever asks now needs the rest of the screen more than ever.
        corrupt = str(error)
    return Overview(
        lease=lease_view(lease, now) if lease else None,
        snapshot=snapshot,
        snapshot_corrupt=corrupt,
        pending=pending_view(list(services.objects.list(settings.delta_prefix)), now),
        quarantine=_quarantine(services),
        queue=_queue(sqs, settings.delta_queue_url),
        dead_letters=_queue(sqs, settings.delta_dlq_url),
        state_machine=machine,
        executions=latest(step_functions, machine, SHOWN) if machine else [],
    )


def lease_view(lease: Lease, now: float) -> LeaseView:
    """Return the lease as it looks at `now`."""
    return LeaseView(
        owner=lease.owner,
        execution=execution_name(lease.owner),
        expired=lease.is_expired(now),
        held_seconds=max(now - lease.acquired_at, 0),
        since_heartbeat_seconds=max(now - lease.heartbeat_at, 0),
        expires_in_seconds=max(lease.expires_at - now, 0),
    )


def pending_view(listed: list[ObjectInfo], now: float) -> PendingView:
    """Count the pending deltas."""
    deltas = [each for each in listed if not is_folder_marker(each.key)]
    oldest = min((each.modified for each in deltas), default=None)
    return PendingView(
        deltas=len(deltas),
        bytes=sum(each.bytes for each in deltas),
        oldest_seconds=None if oldest is None else max(now - oldest, 0),
    )


def _snapshot(services: Services, now: float) -> SnapshotView | None:
    published = read_pointer(services)
    if published is None:
        return None
    pointer = published.pointer
    manifest = read_manifest(services, pointer)
    collections = [
        CollectionView(
            collection=name, records=each.records, dimension=each.dimension, space=each.space, bytes=each.bytes
        )
        for name, each in sorted(manifest.collections.items())
    ]
    return SnapshotView(
        snapshot_id=pointer.snapshot_id,
        age_seconds=max(now - pointer.published_at, 0),
        records=manifest.records,
        bytes=manifest.bytes,
        collections=collections,
    )


def _quarantine(services: Services) -> QuarantineView:
    refused = [each for each in services.objects.list(QUARANTINE_PREFIX) if is_delta(each.key)]
    newest = heapq.nlargest(SHOWN, refused, key=lambda each: (each.modified, each.key))
    return QuarantineView(deltas=len(refused), latest=[_refused(each.key, services) for each in newest])


def _refused(key: str, services: Services) -> RefusedView:
    delta = pending_key(key, prefix=services.settings.delta_prefix)
    try:
        note = read_reason(key, services)
    except ObjectMissingError:
        reason = f"no reason was left beside it; it stands at {key}"
    except ValidationError:
        reason = f"the reason beside it cannot be read; it stands at {reason_key(key)}"
    else:
        delta, reason = note.delta, note.reason
    return RefusedView(delta=delta, reason=reason)


def _queue(client: SQSClient, url: str | None) -> QueueView | None:
    if url is None:
        return None
    found = client.get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    )["Attributes"]
    return QueueView(
        messages=int(found["ApproximateNumberOfMessages"]),
        in_flight=int(found["ApproximateNumberOfMessagesNotVisible"]),
    )
