"""Making deltas that were merged pending again: which, from where, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.outcomes import QuarantineReason
from chromadb_compaction.errors import InvalidRequestError, ObjectMissingError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services

COPIES_AT_ONCE = 500
"""Between two looks at the lease."""

Sizes = Mapping[str, int]


class DeltaLocations(NamedTuple):
    """Where deltas stand, each by the key under which it was or would be pending."""

    pending: Mapping[str, ObjectInfo]
    compacted: Mapping[str, ObjectInfo]
    quarantined: Mapping[str, ObjectInfo]


class ReplayPlan(NamedTuple):
    """What becomes of each delta to replay; all are keys of delta/.

    `copies` come from compacted/. `kept_out` were put into quarantine after they had been merged, which only a person
    does. `gone` are in none of the places, or there in another size: overwritten, or expired from compacted/.
    `rewritten` are pending in another size, so that the replay would overwrite what somebody has written since.
    """

    copies: tuple[str, ...]
    pending: tuple[str, ...]
    left_out: tuple[str, ...]
    kept_out: tuple[str, ...]
    gone: tuple[str, ...]
    rewritten: tuple[str, ...]


def plan_replay(wanted: Sizes, at: DeltaLocations, *, without: Collection[str] = ()) -> ReplayPlan:
    """Say what it takes to have every delta of `wanted` (key -> bytes) pending, except those of `without`.

    A delta is known by its key and its size: a copy's ETag differs from the original's where the bucket encrypts
    with a key of its own, or the original was written in parts.
    """
    found: dict[str, list[str]] = {name: [] for name in ReplayPlan._fields}
    for key in sorted(wanted):
        found[_fate(key, wanted[key], at, without)].append(key)
    return ReplayPlan(**{name: tuple(keys) for name, keys in found.items()})


def _fate(key: str, size: int, at: DeltaLocations, without: Collection[str]) -> str:
    if key in without:
        return "left_out"
    if key in at.pending:
        return "pending" if at.pending[key].bytes == size else "rewritten"
    archived = at.compacted.get(key)
    if key in at.quarantined and (archived is None or at.quarantined[key].modified >= archived.modified):
        return "kept_out"
    return "copies" if archived is not None and archived.bytes == size else "gone"


def locate_deltas(services: Services, *, archived: bool = True) -> DeltaLocations:
    """List delta/, quarantine/ and, unless they do not matter, the many of compacted/."""
    prefix = services.settings.delta_prefix
    listings = in_threads(
        lambda each: list(services.objects.list(each)) if each else [],
        (prefix, layout.COMPACTED_PREFIX if archived else None, layout.QUARANTINE_PREFIX),
    )
    pending, compacted, quarantined = ([d for d in listed if _is_delta(d.key)] for listed in listings)
    return DeltaLocations(
        {info.key: info for info in pending},
        {layout.pending_key(info.key, prefix=prefix): info for info in compacted},
        {layout.pending_key(info.key, prefix=prefix): info for info in quarantined},
    )


def check_possible(plan: ReplayPlan) -> None:
    """Raise ObjectMissingError or InvalidRequestError if the replay would lose what was merged."""
    if plan.gone:
        raise ObjectMissingError(
            f"{len(plan.gone)} of the deltas merged since, {plan.gone[0]} among them, are neither pending nor in"
            f" {layout.COMPACTED_PREFIX} (they expire there): restore their previous versions in the bucket, or roll"
            " back without --replay, which gives their rows up"
        )
    if plan.rewritten:
        raise InvalidRequestError(
            f"{plan.rewritten[0]} was merged, and has been written again since with other content: the replay would"
            " overwrite that; copy it to a fresh UUIDv7 name, delete it, and type the command again"
        )


def carry_out(plan: ReplayPlan, at: DeltaLocations, services: Services, *, alive: Callable[[], None]) -> None:
    """Copy from compacted/ to delta/. A second run finds done what the first did."""

    def copy(key: str) -> None:
        services.objects.copy(at.compacted[key].key, key, etag=at.compacted[key].etag)

    for start in range(0, len(plan.copies), COPIES_AT_ONCE):
        alive()
        in_threads(copy, plan.copies[start : start + COPIES_AT_ONCE])


def leave_out(keys: Iterable[str], at: DeltaLocations, services: Services, *, owner: str, reason: str) -> None:
    """Move deltas into quarantine with a reason, from wherever they stand; the copy in compacted/ stays."""

    def move(key: str) -> None:
        source = at.pending.get(key) or at.compacted.get(key)
        if source is not None:
            put_into_quarantine(key, source, services, owner=owner, reason=reason)

    in_threads(move, keys)


def put_into_quarantine(key: str, source: ObjectInfo, services: Services, *, owner: str, reason: str) -> None:
    """Copy, write the reason, then take it out of delta/: a crash leaves it pending or in quarantine, or both."""
    target = layout.quarantine_key(key, prefix=services.settings.delta_prefix)
    services.objects.copy(source.key, target, etag=source.etag)
    note = QuarantineReason(
        delta=key, reason=reason, quarantined_at=services.clock(), execution=owner, etag=source.etag
    )
    services.objects.put(layout.reason_key(target), note.model_dump_json().encode())
    if source.key == key:
        services.objects.delete_if({key: source.etag})


def _is_delta(key: str) -> bool:
    return not layout.is_folder_marker(key) and not layout.is_reason_key(key)
