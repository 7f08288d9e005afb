"""The replay of deltas: merged deltas become pending again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.quarantine import copy_into_quarantine
from chromadb_compaction.errors import InvalidRequestError, ObjectMissingError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services

COPIES_AT_ONCE = 500
"""Deltas copied between two checks of the lease."""

Sizes = Mapping[str, int]
"""Bytes of deltas, by pending key."""


class DeltaLocations(NamedTuple):
    """All deltas in the bucket, by the key under which each is or was pending.

    Attributes:
        pending: Those in delta/.
        compacted: Those in compacted/.
        quarantined: Those in quarantine/.
    """

    pending: Mapping[str, ObjectInfo]
    compacted: Mapping[str, ObjectInfo]
    quarantined: Mapping[str, ObjectInfo]


class ReplayPlan(NamedTuple):
    """The deltas to replay, by what is done with each. All are pending keys.

    Attributes:
        copies: Those to copy from compacted/.
        pending: Those that are pending already.
        left_out: Those that the operator leaves out.
        kept_out: Those that an operator put into quarantine after they had been merged.
        gone: Those found nowhere, or with another size: overwritten, or expired from compacted/.
        rewritten: Those pending with another size, which the replay would overwrite.
    """

    copies: tuple[str, ...]
    pending: tuple[str, ...]
    left_out: tuple[str, ...]
    kept_out: tuple[str, ...]
    gone: tuple[str, ...]
    rewritten: tuple[str, ...]


def plan_replay(wanted: Sizes, locations: DeltaLocations, *, without: Collection[str] = ()) -> ReplayPlan:
    """Plan how every delta of `wanted`, except those of `without`, becomes pending.

    A delta is identified by its key and size. ETags do not help: a copy's ETag differs from the original's if the
    bucket encrypts with its own key, or if the original was written in parts.
    """
    found: dict[str, list[str]] = {name: [] for name in ReplayPlan._fields}
    for key in sorted(wanted):
        found[_classify(key, wanted[key], locations, without)].append(key)
    return ReplayPlan(**{name: tuple(keys) for name, keys in found.items()})


def _classify(key: str, size: int, locations: DeltaLocations, without: Collection[str]) -> str:
    """Return the field of ReplayPlan for a delta."""
    if key in without:
        return "left_out"
    if key in locations.pending:
        return "pending" if locations.pending[key].bytes == size else "rewritten"
    archived, quarantined = locations.compacted.get(key), locations.quarantined.get(key)
    if quarantined is not None and (archived is None or quarantined.modified >= archived.modified):
        return "kept_out"
    return "copies" if archived is not None and archived.bytes == size else "gone"


def locate_deltas(services: Services, *, archived: bool = True) -> DeltaLocations:
    """List delta/ and quarantine/ and, if `archived`, also compacted/, which may hold many."""
    prefix = services.settings.delta_prefix
    listings = in_threads(
        lambda each: list(services.objects.list(each)) if each else [],
        (prefix, layout.COMPACTED_PREFIX if archived else None, layout.QUARANTINE_PREFIX),
    )
    pending, compacted, quarantined = ([d for d in listed if layout.is_delta(d.key)] for listed in listings)
    return DeltaLocations(
        {info.key: info for info in pending},
        {layout.pending_key(info.key, prefix=prefix): info for info in compacted},
        {layout.pending_key(info.key, prefix=prefix): info for info in quarantined},
    )


def check_possible(plan: ReplayPlan) -> None:
    """Raise ObjectMissingError or InvalidRequestError if the replay would lose rows."""
    if plan.gone:
        raise ObjectMissingError(
            f"{len(plan.gone)} of the deltas merged since, such as {plan.gone[0]}, are neither pending nor in"
            f" {layout.COMPACTED_PREFIX}, where they expire",
            next_step="restore their previous versions in the bucket, or roll back without --replay, which gives up"
            " their rows",
            key=plan.gone[0],
        )
    if plan.rewritten:
        raise InvalidRequestError(
            f"{plan.rewritten[0]} was merged, and has been written again with other content, which the replay would"
            " overwrite",
            next_step="copy it to a new UUIDv7 name, delete it, and run the command again",
        )


def carry_out(
    plan: ReplayPlan, locations: DeltaLocations, services: Services, *, check_lease: Callable[[], None]
) -> None:
    """Copy the plan's deltas from compacted/ to delta/. It can be repeated."""

    def copy(key: str) -> None:
        services.objects.copy(locations.compacted[key].key, key, etag=locations.compacted[key].etag)

    for start in range(0, len(plan.copies), COPIES_AT_ONCE):
        check_lease()
        in_threads(copy, plan.copies[start : start + COPIES_AT_ONCE])


def put_into_quarantine(
    keys: Iterable[str], locations: DeltaLocations, services: Services, *, owner: str, reason: str
) -> None:
    """Move deltas from delta/ into quarantine, or copy them from compacted/.

    A pending delta is deleted last, so that a crash leaves it pending, in quarantine, or both.
    """

    def move(key: str) -> None:
        source = locations.pending.get(key) or locations.compacted.get(key)
        if source is not None:
            copy_into_quarantine(key, source, services, reason=reason, execution=owner)
            if source.key == key:
                services.objects.delete_if({key: source.etag})

    in_threads(move, keys)
