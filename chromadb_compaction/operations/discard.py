"""Quarantined deltas, and objects under delta/ that are not deltas, that an operator deletes for good."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, NoReturn

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.deltas.versions import parse_delta_id
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError, ObjectMissingError
from chromadb_compaction.operations.operator_lease import operator_lease
from chromadb_compaction.operations.quarantine import list_quarantined
from chromadb_compaction.operations.typed_ids import LATEST, find_deltas, find_id
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services


class Discarded(BaseModel):
    """The result of a discard.

    Attributes:
        discarded: The keys that were deleted (with `dry_run`: would be). The bucket's versions keep the content.
        written_again: The keys that were written again meanwhile, and stay.
        dry_run: Whether nothing was changed.
    """

    model_config = ConfigDict(frozen=True)

    discarded: list[str]
    written_again: list[str]
    dry_run: bool


class _Disposable(NamedTuple):
    """An object that may be discarded, the names that mean it, and the key of its reason if it is quarantined."""

    info: ObjectInfo
    names: frozenset[str]
    reason: str | None


def discard(services: Services, names: Sequence[str], *, operator: str, dry_run: bool) -> Discarded:
    """Delete the objects that `names` mean, with their reasons, each only while it is unchanged.

    Names are keys, UUIDs, their beginnings, or `latest`. Raises InvalidRequestError for a delta that is pending and may
    be merged, AmbiguousIdError, ObjectMissingError for an unknown name, and LockHeldError while an execution works.
    Nothing is deleted then.
    """
    if dry_run:
        chosen = _choose(services, names)
        return Discarded(discarded=sorted(each.info.key for each in chosen), written_again=[], dry_run=True)
    with operator_lease(services, operator):
        disposable = _disposable(services)
        chosen = _choose(services, names, disposable)
        written_again = services.objects.delete_if({each.info.key: each.info.etag for each in chosen})
        deleted = {each.info.key for each in chosen} - written_again
        services.objects.delete(_orphaned_reasons(disposable, deleted))
    return Discarded(discarded=sorted(deleted), written_again=sorted(written_again), dry_run=False)


def _choose(
    services: Services, names: Sequence[str], disposable: Sequence[_Disposable] | None = None
) -> list[_Disposable]:
    found = _disposable(services) if disposable is None else disposable
    chosen = {_find(name, found) or _refuse(name, services) for name in names}
    return [each for each in found if not each.names.isdisjoint(chosen)]


def _find(typed: str, found: Sequence[_Disposable]) -> str | None:
    """Return the name of an object. `latest` is the quarantined delta that was written last."""
    if typed == LATEST:
        return max((layout.delta_stem(each.info.key) for each in found if each.reason), default=None)
    return find_id(typed, frozenset[str]().union(*(each.names for each in found)))


def _disposable(services: Services) -> list[_Disposable]:
    quarantined = {info.key: info for info in services.objects.list(layout.QUARANTINE_PREFIX)}
    deltas = [
        _Disposable(
            quarantined[each.key],
            frozenset({each.key, each.delta, layout.delta_stem(each.delta)}),
            layout.reason_key(each.key),
        )
        for each in list_quarantined(services)
        if each.key in quarantined
    ]
    pending = services.objects.list(services.settings.delta_prefix)
    foreign = [each for each in pending if not _may_be_merged(each.key, services)]
    return [*deltas, *(_Disposable(each, frozenset({each.key}), None) for each in foreign)]


def _may_be_merged(key: str, services: Services) -> bool:
    """Return whether the name of an object under delta/ is a delta's, now or once its time has come."""
    try:
        name = layout.parse_delta_key(key, prefix=services.settings.delta_prefix)
        parse_delta_id(name.stem, now=float("inf"))
    except CorruptDeltaError:
        return False
    return True


def _orphaned_reasons(disposable: Sequence[_Disposable], deleted: Collection[str]) -> set[str]:
    """Return the reasons of deleted deltas that no delta which stays shares."""
    gone = {each.reason for each in disposable if each.reason and each.info.key in deleted}
    return gone - {each.reason for each in disposable if each.reason and each.info.key not in deleted}


def _refuse(name: str, services: Services) -> NoReturn:
    pending = [info.key for info in services.objects.list(services.settings.delta_prefix)]
    for key in find_deltas(name, [each for each in pending if _may_be_merged(each, services)]):
        raise InvalidRequestError(
            f"{key} is pending, and would be merged; nothing was discarded",
            next_step="first: chromadb-compaction deltas quarantine ID --reason TEXT",
        )
    raise ObjectMissingError(
        f"nothing named {name} is quarantined, or lies under {services.settings.delta_prefix} without being a delta",
        next_step="see: chromadb-compaction deltas quarantined, or: chromadb-compaction deltas list",
    )
