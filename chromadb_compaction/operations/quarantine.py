"""Deltas out of the workflow's way and back again: what a person decides about single ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.outcomes import QuarantineReason
from chromadb_compaction.deltas.versions import parse_delta_id
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError, ObjectMissingError
from chromadb_compaction.operations.operator_lease import operator_lease
from chromadb_compaction.operations.replay import DeltaLocations, locate_deltas, put_into_quarantine
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services

_SEE = {"pending": "list", "quarantined": "quarantined"}


class QuarantinedDelta(BaseModel):
    """A delta in quarantine. `delta` is the key under which it was pending, `at` when it was refused, Unix seconds.

    `reason` None: none was left beside it, or it cannot be read.
    """

    model_config = ConfigDict(frozen=True)

    delta: str
    key: str
    bytes: int
    at: float
    reason: str | None
    execution: str | None


class Moved(BaseModel):
    """The deltas moved (with `dry_run`: that would be), by pending key, and those left alone, with the reason."""

    model_config = ConfigDict(frozen=True)

    moved: list[str]
    refused: dict[str, str]
    dry_run: bool


class Selection(NamedTuple):
    """Which deltas are meant: by key or UUID, or all of them, perhaps of one collection."""

    names: Sequence[str]
    everything: bool = False
    collection: str | None = None

    def of(self, there: Sequence[str], *, what: str, prefix: str) -> list[str]:
        """Return the selected keys among `there`. Raises InvalidRequestError; ObjectMissingError if unknown."""
        if self.everything == bool(self.names):
            raise InvalidRequestError("name deltas by ID, or give --all, but not both")
        inside = [k for k in there if not self.collection or k.startswith(f"{prefix}{self.collection}/")]
        if self.everything:
            return inside
        chosen: list[str] = []
        for name in self.names:
            found = [key for key in inside if name in (key, layout.delta_stem(key))]
            if not found:
                raise ObjectMissingError(
                    f"there is no {what} delta {name}; see: chromadb-compaction deltas {_SEE[what]}"
                )
            chosen += [key for key in found if key not in chosen]
        return chosen


def list_quarantined(services: Services) -> list[QuarantinedDelta]:
    """Return everything in quarantine, the newest first."""
    at = locate_deltas(services, archived=False).quarantined
    found = in_threads(lambda pair: _refused(pair[0], pair[1], services), at.items())
    return sorted(found, key=lambda each: (each.at, each.delta), reverse=True)


def requeue(services: Services, selection: Selection, *, operator: str, dry_run: bool) -> Moved:
    """Move deltas from quarantine back to delta/, and remove their reasons.

    One whose name can never be a version is left where it is, and so is one whose name is pending with other content.
    Raises LockHeldError while an execution works.
    """

    def move(keys: Sequence[str], at: DeltaLocations) -> None:
        in_threads(lambda key: _requeue(key, at.quarantined[key], services), keys)

    def fits(key: str, at: DeltaLocations) -> str | None:
        try:
            parse_delta_id(
                layout.parse_delta_key(key, prefix=services.settings.delta_prefix).stem, now=services.clock()
            )
        except CorruptDeltaError as error:
            return str(error)
        pending = at.pending.get(key)
        if pending is not None and pending.bytes != at.quarantined[key].bytes:
            return "a delta of that name is pending with other content; move one of them away"
        return None

    return _move(services, selection, operator, move, fits, quarantined=True, dry_run=dry_run)


def quarantine(services: Services, selection: Selection, *, reason: str, operator: str, dry_run: bool) -> Moved:
    """Move pending deltas into quarantine with `reason`, before an execution merges them.

    Raises LockHeldError while an execution works.
    """

    def move(keys: Sequence[str], at: DeltaLocations) -> None:
        in_threads(lambda key: put_into_quarantine(key, at.pending[key], services, owner=operator, reason=reason), keys)

    return _move(services, selection, operator, move, lambda _key, _at: None, quarantined=False, dry_run=dry_run)


def _move(
    services: Services,
    selection: Selection,
    operator: str,
    move: Callable[[Sequence[str], DeltaLocations], None],
    fits: Callable[[str, DeltaLocations], str | None],
    *,
    quarantined: bool,
    dry_run: bool,
) -> Moved:
    def plan() -> tuple[Moved, DeltaLocations]:
        at = locate_deltas(services, archived=False)
        there, what = (at.quarantined, "quarantined") if quarantined else (at.pending, "pending")
        chosen = selection.of(list(there), what=what, prefix=services.settings.delta_prefix)
        verdicts = {key: fits(key, at) for key in chosen}
        moved = [key for key, why_not in verdicts.items() if why_not is None]
        refused = {key: why_not for key, why_not in verdicts.items() if why_not is not None}
        if selection.names and refused:
            key, why_not = next(iter(refused.items()))
            raise InvalidRequestError(f"{key} stays where it is, and so do the others: {why_not}")
        return Moved(moved=moved, refused=refused, dry_run=dry_run), at

    if dry_run:
        return plan()[0]
    with operator_lease(services, operator):
        moved, at = plan()
        move(moved.moved, at)
    return moved


def _requeue(key: str, found: ObjectInfo, services: Services) -> None:
    # The copy first: a crash leaves the delta in both places, pending and harmless.
    services.objects.copy(found.key, key, etag=found.etag)
    services.objects.delete([found.key, layout.reason_key(found.key)])


def _refused(delta: str, found: ObjectInfo, services: Services) -> QuarantinedDelta:
    note = _reason(found.key, services)
    return QuarantinedDelta(
        delta=note.delta if note else delta,
        key=found.key,
        bytes=found.bytes,
        at=note.quarantined_at if note else found.modified,
        reason=note.reason if note else None,
        execution=note.execution if note else None,
    )


def _reason(key: str, services: Services) -> QuarantineReason | None:
    try:
        return QuarantineReason.model_validate_json(services.objects.get(layout.reason_key(key)).body)
    except (ObjectMissingError, ValidationError):
        return None
