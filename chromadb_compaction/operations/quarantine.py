"""Single deltas that an operator puts into quarantine, or makes pending again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.identity import have_same_content
from chromadb_compaction.deltas.quarantine import read_reason, remove_from_quarantine
from chromadb_compaction.deltas.versions import parse_delta_id
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError, NewerFormatError, ObjectMissingError
from chromadb_compaction.operations.operator_lease import operator_lease
from chromadb_compaction.operations.replay import DeltaLocations, locate_deltas, put_into_quarantine
from chromadb_compaction.operations.typed_ids import find_deltas
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.times import Moment

_LIST_COMMANDS = {"pending": "deltas list", "quarantined": "deltas quarantined"}


class QuarantinedDelta(BaseModel):
    """A delta in quarantine.

    Attributes:
        delta: The key under which it was pending.
        key: The key in quarantine.
        bytes: Its size.
        at: When it was quarantined.
        reason: Why. None if there is no reason beside it, or if that cannot be read.
        execution: The ARN of the execution, or the name of the operator. None if the reason could not be read.
    """

    model_config = ConfigDict(frozen=True)

    delta: str
    key: str
    bytes: int
    at: Moment
    reason: str | None
    execution: str | None


class Moved(BaseModel):
    """The pending keys of the deltas that were moved (with `dry_run`: would be), and why each of `refused` was not."""

    model_config = ConfigDict(frozen=True)

    moved: list[str]
    refused: dict[str, str]
    dry_run: bool


class Selection(NamedTuple):
    """The deltas that the operator means.

    Attributes:
        names: Their keys or UUIDs, or the beginnings of these, or `latest`.
        everything: Select all deltas instead.
        collection: Select only deltas of this collection.
    """

    names: Sequence[str]
    everything: bool = False
    collection: str | None = None

    def of(self, keys: Sequence[str], *, state: str, prefix: str) -> list[str]:
        """Return the selected keys among `keys`, the pending keys of all deltas in `state`.

        Raises InvalidRequestError, AmbiguousIdError, and ObjectMissingError for an unknown name.
        """
        if self.everything == bool(self.names):
            raise InvalidRequestError("name deltas by ID, or give --all, but not both")
        folder = layout.collection_prefix(self.collection, prefix=prefix) if self.collection else ""
        inside = [key for key in keys if key.startswith(folder)]
        if self.everything:
            return inside
        chosen: list[str] = []
        for name in self.names:
            found = find_deltas(name, inside)
            if not found:
                see = f"see: chromadb-compaction {_LIST_COMMANDS[state]}"
                raise ObjectMissingError(f"there is no {state} delta {name}", next_step=see)
            chosen += [key for key in found if key not in chosen]
        return chosen


def list_quarantined(services: Services) -> list[QuarantinedDelta]:
    """Return all quarantined deltas, newest first."""
    quarantined = locate_deltas(services, archived=False).quarantined
    found = in_threads(lambda pair: _describe(pair[0], pair[1], services), quarantined.items())
    return sorted(found, key=lambda each: (each.at, each.delta), reverse=True)


def requeue(services: Services, selection: Selection, *, operator: str, dry_run: bool) -> Moved:
    """Move deltas from quarantine back to delta/, and delete their reasons.

    A delta stays in quarantine if its name can never be a version, or if its name is pending with other content.
    Raises LockHeldError while an execution works.
    """

    def move(keys: Sequence[str], locations: DeltaLocations) -> None:
        in_threads(lambda key: _requeue(key, locations.quarantined[key], services), keys)

    def obstacle(key: str, locations: DeltaLocations) -> str | None:
        try:
            parse_delta_id(
                layout.parse_delta_key(key, prefix=services.settings.delta_prefix).stem, now=services.clock()
            )
        except CorruptDeltaError as error:
            return str(error)
        pending = locations.pending.get(key)
        if pending is not None and not have_same_content(pending, locations.quarantined[key], services.objects):
            return "a delta of that name is pending with other content; move one of them away"
        return None

    return _move(services, selection, operator, move, obstacle, state="quarantined", dry_run=dry_run)


def quarantine(services: Services, selection: Selection, *, reason: str, operator: str, dry_run: bool) -> Moved:
    """Move pending deltas into quarantine with `reason`, before an execution merges them.

    Raises LockHeldError while an execution works.
    """

    def move(keys: Sequence[str], locations: DeltaLocations) -> None:
        put_into_quarantine({key: locations.pending[key] for key in keys}, services, owner=operator, reason=reason)

    return _move(services, selection, operator, move, lambda _key, _at: None, state="pending", dry_run=dry_run)


def _move(
    services: Services,
    selection: Selection,
    operator: str,
    move: Callable[[Sequence[str], DeltaLocations], None],
    obstacle: Callable[[str, DeltaLocations], str | None],
    *,
    state: str,
    dry_run: bool,
) -> Moved:
    """Move the selected deltas of `state`, except those that have an obstacle."""

    def plan() -> tuple[Moved, DeltaLocations]:
        locations = locate_deltas(services, archived=False)
        keys = list(locations.quarantined if state == "quarantined" else locations.pending)
        obstacles = {
            key: obstacle(key, locations)
            for key in selection.of(keys, state=state, prefix=services.settings.delta_prefix)
        }
        moved = [key for key, why_not in obstacles.items() if why_not is None]
        refused = {key: why_not for key, why_not in obstacles.items() if why_not is not None}
        if selection.names and refused:
            key, why_not = next(iter(refused.items()))
            raise InvalidRequestError(f"{key} cannot be moved, so no delta was moved: {why_not}")
        return Moved(moved=moved, refused=refused, dry_run=dry_run), locations

    if dry_run:
        return plan()[0]
    with operator_lease(services, operator):
        moved, locations = plan()
        move(moved.moved, locations)
    return moved


def _requeue(key: str, found: ObjectInfo, services: Services) -> None:
    # The copy comes first, so that a crash leaves the delta in both places, which is harmless.
    services.objects.copy(found.key, key, etag=found.etag)
    remove_from_quarantine(found.key, services)


def _describe(delta: str, found: ObjectInfo, services: Services) -> QuarantinedDelta:
    note, problem = None, None
    try:
        note = read_reason(found.key, services)
    except NewerFormatError as error:
        problem = str(error)
    except (ObjectMissingError, ValidationError):
        pass
    return QuarantinedDelta(
        delta=note.delta if note else delta,
        key=found.key,
        bytes=found.bytes,
        at=note.quarantined_at if note else found.modified,
        reason=note.reason if note else problem,
        execution=note.execution if note else None,
    )
