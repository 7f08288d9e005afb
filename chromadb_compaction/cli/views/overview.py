"""The state of every part of the system, read with a few cheap requests each. `status` shows it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from chromadb_compaction.cli.executions.client import Execution, latest
from chromadb_compaction.cli.views.lock import HeldLock, read_lock
from chromadb_compaction.deltas.attempts import AttemptMark, Attempts, attempts_of, read_attempts
from chromadb_compaction.deltas.deferral.listing import Deferral, without_rows
from chromadb_compaction.deltas.deferral.rule import rule_of
from chromadb_compaction.deltas.quarantine import read_reason
from chromadb_compaction.errors import (
    CompactionError,
    MalformedLockError,
    NewerFormatError,
    ObjectMissingError,
    SnapshotCorruptError,
)
from chromadb_compaction.layout import (
    QUARANTINE_PREFIX,
    is_delta,
    is_folder_marker,
    pending_key,
    reason_key,
)
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import QueueDepth, Services
from chromadb_compaction.snapshots.missing_pointer import missing_pointer, restored_pointer
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.snapshots.tree.descriptions import absent_keys

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

Part = TypeVar("Part")

SHOWN = 5
"""Executions and reasons that are shown."""


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class CollectionView(_View):
    """One collection of the published snapshot."""

    collection: str
    records: int
    dimension: int | None
    space: str
    bytes: int


class SnapshotView(_View):
    """The published snapshot. `hint` says what is wrong with the pointer if an older one was restored by hand."""

    snapshot_id: str
    hint: str | None
    age_seconds: float
    records: int
    bytes: int
    collections: list[CollectionView]


class SetAsideView(_View):
    """A pending delta that cannot be read, or that made executions fail."""

    delta: str
    reason: str
    failures: int


class PendingView(_View):
    """The pending deltas. `oldest_seconds` is the age of the oldest, or None if nothing is pending.

    Attributes:
        troubled: The number of deltas that cannot be read, or that made executions fail.
        latest: Some of these, with their reasons.
        deferred: The number of deltas of collections that are not due by their age, bytes or number of deltas. The next
            execution counts their rows, and may find some of them due.
        deferred_until: When the first of these collections is due, in Unix seconds. None if there are none.
    """

    deltas: int
    bytes: int
    oldest_seconds: float | None
    troubled: int = 0
    latest: list[SetAsideView] = []
    deferred: int = 0
    deferred_until: float | None = None


class QuarantinedView(_View):
    """One quarantined delta, under the key that it was written to."""

    delta: str
    reason: str


class QuarantineView(_View):
    """The quarantined deltas. `latest` holds the newest of them, newest first."""

    deltas: int
    latest: list[QuarantinedView]


class QueueView(_View):
    """A queue's approximate depth."""

    messages: int
    in_flight: int


class Overview(_View):
    """All views. One that is not configured is None, and so is one that could not be read.

    `lock_malformed` says why `lock` is None although there is a lock item. `snapshot_corrupt` or
    `snapshot_of_newer_format` says why `snapshot` is None although there is a pointer, or was one. `errors` says why
    other views are None, by the name of their field.
    """

    lock: HeldLock | None
    lock_malformed: str | None
    snapshot: SnapshotView | None
    snapshot_corrupt: str | None
    snapshot_of_newer_format: str | None
    pending: PendingView | None
    quarantine: QuarantineView | None
    queue: QueueView | None
    dead_letters: QueueView | None
    state_machine: str | None
    executions: list[Execution]
    errors: dict[str, str] = {}


class _Parts:
    """Reads the parts of the overview one by one. A part that cannot be read does not hide the others."""

    def __init__(self) -> None:
        self.errors: dict[str, CompactionError] = {}
        self._succeeded = False

    def read(self, name: str, read: Callable[[], Part]) -> Part | None:
        """Return what `read` returns, or None if it raises a CompactionError."""
        try:
            part = read()
        except CompactionError as error:
            self.errors[name] = error
            return None
        self._succeeded = True
        return part

    def take_error(self, name: str, kind: type[CompactionError]) -> str | None:
        """Remove and return the error of that kind, which has a field of its own. None if there is none."""
        return str(self.errors.pop(name)) if isinstance(self.errors.get(name), kind) else None

    def check(self) -> None:
        """Raise the first error if no part could be read: then the settings or the credentials are wrong."""
        if self.errors and not self._succeeded:
            raise next(iter(self.errors.values()))


def read_overview(services: Services, step_functions: SFNClient) -> Overview:
    """Read the state of everything that is configured. Raises CompactionError if nothing can be read."""
    settings, now = services.settings, services.clock()
    machine, parts = settings.state_machine_arn, _Parts()
    snapshot = parts.read("snapshot", lambda: _snapshot(services, now))
    lock = parts.read("lock", lambda: read_lock(services)) if settings.dynamodb_table else None
    pending = parts.read("pending", lambda: _pending(services, now))
    quarantine = parts.read("quarantine", lambda: _quarantine(services))
    queue = parts.read("queue", lambda: _queue(services.queue.depth()))
    dead_letters = parts.read("dead_letters", lambda: _queue(services.queue.dead_letter_depth()))
    executions = parts.read("executions", lambda: latest(step_functions, machine, SHOWN)) if machine else []
    parts.check()
    return Overview(
        lock=lock,
        lock_malformed=parts.take_error("lock", MalformedLockError),
        snapshot=snapshot,
        snapshot_corrupt=parts.take_error("snapshot", SnapshotCorruptError),
        snapshot_of_newer_format=parts.take_error("snapshot", NewerFormatError),
        pending=pending,
        quarantine=quarantine,
        queue=queue,
        dead_letters=dead_letters,
        state_machine=machine,
        executions=executions or [],
        errors={name: str(error) for name, error in parts.errors.items()},
    )


def _pending(services: Services, now: float) -> PendingView:
    """Count the pending deltas in a stream, so that a backlog of any size takes no memory."""
    prefix = services.settings.delta_prefix
    deltas = size = troubled = 0
    oldest: float | None = None
    latest: list[tuple[str, Attempts]] = []
    listing = (each for each in services.objects.list(prefix) if not is_folder_marker(each.key))
    first = list(islice(listing, 1))
    # Without pending deltas, marks say nothing.
    marks = read_attempts(services.objects) if first else {}

    def count() -> Iterator[ObjectInfo]:
        nonlocal deltas, size, troubled, oldest
        for each in chain(first, listing):
            deltas, size = deltas + 1, size + each.bytes
            oldest = each.modified if oldest is None else min(oldest, each.modified)
            attempts = attempts_of(each, marks, prefix=prefix)
            if attempts.latest is not None:
                troubled += 1
                latest.extend([(each.key, attempts)] if troubled <= SHOWN else [])
            yield each

    deferral = Deferral(rule_of(services.settings), marks, now=now, count_rows=without_rows, prefix=prefix)
    for _ in deferral.due(count()):
        pass
    return PendingView(
        deltas=deltas,
        bytes=size,
        oldest_seconds=None if oldest is None else max(now - oldest, 0),
        troubled=troubled,
        latest=[_set_aside(key, attempts, services) for key, attempts in latest],
        deferred=deferral.deferred.deltas,
        deferred_until=deferral.deferred.until,
    )


def _set_aside(delta: str, attempts: Attempts, services: Services) -> SetAsideView:
    try:
        reason = AttemptMark.model_validate_json(services.objects.get(str(attempts.latest)).body).reason
    except (ObjectMissingError, ValidationError):
        reason = "no reason is stored"
    return SetAsideView(delta=delta, reason=reason, failures=attempts.failures)


def _snapshot(services: Services, now: float) -> SnapshotView | None:
    published = read_pointer(services)
    if published is None:
        error = missing_pointer(services)
        if isinstance(error, SnapshotCorruptError):
            raise error
        return None
    pointer = published.pointer
    manifest = read_manifest(services, pointer)
    objects = {info.key: info for info in services.objects.list(services.settings.snapshot_prefix)}
    prefix = services.settings.snapshot_prefix
    absent = absent_keys(manifest, objects, prefix=prefix)
    if absent:
        problem = f"is missing or has another size ({len(absent)} such files of snapshot {pointer.snapshot_id})"
        raise SnapshotCorruptError.damaged(absent[0], problem)
    collections = [
        CollectionView(
            collection=name, records=each.records, dimension=each.dimension, space=each.space, bytes=each.bytes
        )
        for name, each in sorted(manifest.collections.items())
    ]
    return SnapshotView(
        snapshot_id=pointer.snapshot_id,
        hint=restored_pointer(pointer, objects, prefix=prefix),
        age_seconds=max(now - pointer.published_at, 0),
        records=manifest.records,
        bytes=manifest.bytes,
        collections=collections,
    )


def _quarantine(services: Services) -> QuarantineView:
    deltas = [each for each in services.objects.list(QUARANTINE_PREFIX) if is_delta(each.key)]
    newest = heapq.nlargest(SHOWN, deltas, key=lambda each: (each.modified, each.key))
    return QuarantineView(deltas=len(deltas), latest=[_quarantined(each.key, services) for each in newest])


def _quarantined(key: str, services: Services) -> QuarantinedView:
    delta = pending_key(key, prefix=services.settings.delta_prefix)
    try:
        stored = read_reason(key, services)
    except NewerFormatError as error:
        return QuarantinedView(delta=delta, reason=str(error))
    except ObjectMissingError:
        return QuarantinedView(delta=delta, reason=f"no reason is stored beside {key}")
    except ValidationError:
        return QuarantinedView(delta=delta, reason=f"the reason in {reason_key(key)} cannot be read")
    return QuarantinedView(delta=stored.delta, reason=stored.reason)


def _queue(depth: QueueDepth | None) -> QueueView | None:
    return QueueView(messages=depth.messages, in_flight=depth.in_flight) if depth else None
