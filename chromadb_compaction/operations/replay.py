"""The replay of deltas: merged deltas become pending again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.identity import Content
from chromadb_compaction.deltas.quarantine import copy_into_quarantine
from chromadb_compaction.errors import DeltasGoneError, InvalidRequestError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services

NAMED_IN_A_MESSAGE = 20
COPIES_AT_ONCE = 500
"""Deltas copied between two checks of the lease."""

Wanted = Mapping[str, Content]
"""The merged content of deltas, by pending key."""


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

    Only an object with the content that was merged counts as the delta.

    Attributes:
        copies: Those to copy from compacted/.
        pending: Those that are pending already.
        left_out: Those that the operator leaves out.
        given_up: Those that the operator leaves out, and that are gone.
        kept_out: Those that an operator put into quarantine after they had been merged.
        gone: Those found nowhere: overwritten, or expired from compacted/.
        rewritten: Those pending with other content, which the replay would overwrite.
        sources: The objects of `copies` and `left_out` outside quarantine, by pending key.
    """

    copies: tuple[str, ...]
    pending: tuple[str, ...]
    left_out: tuple[str, ...]
    given_up: tuple[str, ...]
    kept_out: tuple[str, ...]
    gone: tuple[str, ...]
    rewritten: tuple[str, ...]
    sources: Mapping[str, ObjectInfo]


class _Found(NamedTuple):
    """A field of ReplayPlan, and the object outside quarantine that has the merged content."""

    field: str
    source: ObjectInfo | None


def plan_replay(
    wanted: Wanted,
    locations: DeltaLocations,
    *,
    has_content: Callable[[Content, ObjectInfo], bool],
    without: Collection[str] = (),
) -> ReplayPlan:
    """Plan how every delta of `wanted`, except those of `without`, becomes pending.

    `has_content` returns whether an object has a merged content; it may have to read the object.
    """
    keys = sorted(wanted)

    def classify(key: str) -> _Found:
        at = [each if each and has_content(wanted[key], each) else None for each in _objects_of(key, locations)]
        return _classify(*at, left_out=key in without, rewritten=key in locations.pending)

    found = dict(zip(keys, in_threads(classify, keys), strict=True))
    by_field = {
        name: tuple(key for key in keys if found[key].field == name) for name in ReplayPlan._fields if name != "sources"
    }
    sources = {key: each.source for key, each in found.items() if each.source is not None}
    return ReplayPlan(**by_field, sources=sources)


def _objects_of(key: str, locations: DeltaLocations) -> tuple[ObjectInfo | None, ...]:
    return locations.pending.get(key), locations.compacted.get(key), locations.quarantined.get(key)


def _classify(
    pending: ObjectInfo | None,
    archived: ObjectInfo | None,
    quarantined: ObjectInfo | None,
    *,
    left_out: bool,
    rewritten: bool,
) -> _Found:
    """Decide about one delta, given the objects with its merged content."""
    source = pending or archived
    if left_out:
        return _Found("left_out" if source or quarantined else "given_up", source)
    if pending is not None:
        return _Found("pending", source)
    if rewritten:
        return _Found("rewritten", source)
    if quarantined is not None and (archived is None or quarantined.modified >= archived.modified):
        return _Found("kept_out", source)
    return _Found("copies" if archived else "gone", source)


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
    """Raise DeltasGoneError or InvalidRequestError, naming every delta, if the replay would lose rows."""
    if plan.gone:
        raise DeltasGoneError(
            f"{len(plan.gone)} of the deltas merged since are neither pending nor in {layout.COMPACTED_PREFIX}, where"
            f" they expire: {_named(plan.gone)}",
            next_step="restore their previous versions in the bucket, name each with --without to give its rows up, or"
            " roll back without --replay, which gives up the rows of all deltas merged since",
            key=plan.gone[0],
            gone=list(plan.gone),
        )
    if plan.rewritten:
        raise InvalidRequestError(
            f"deltas that were merged have been written again with other content, which the replay would overwrite:"
            f" {_named(plan.rewritten)}",
            next_step="copy each to a new UUIDv7 name, delete it, and run the command again",
        )


def _named(keys: Sequence[str]) -> str:
    more = len(keys) - NAMED_IN_A_MESSAGE
    return ", ".join(keys[:NAMED_IN_A_MESSAGE]) + (f" and {more} more, which --json names" if more > 0 else "")


def carry_out(plan: ReplayPlan, services: Services, *, check_lease: Callable[[], None]) -> None:
    """Copy the plan's deltas from compacted/ to delta/. It can be repeated."""

    def copy(key: str) -> None:
        services.objects.copy(plan.sources[key].key, key, etag=plan.sources[key].etag)

    for start in range(0, len(plan.copies), COPIES_AT_ONCE):
        check_lease()
        in_threads(copy, plan.copies[start : start + COPIES_AT_ONCE])


def put_into_quarantine(sources: Mapping[str, ObjectInfo], services: Services, *, owner: str, reason: str) -> None:
    """Move pending deltas into quarantine, or copy those from compacted/. `sources` are objects, by pending key.

    A pending delta is deleted last, so that a crash leaves it pending, in quarantine, or both.
    """

    def move(key: str) -> None:
        source = sources[key]
        copy_into_quarantine(key, source, services, reason=reason, execution=owner)
        if source.key == key:
            services.objects.delete_if({key: source.etag})

    in_threads(move, sources)
