"""Deltas of the same collection that are newer than a put's own: where both have an id, theirs stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple
from uuid import UUID

from chromadb_compaction import layout
from chromadb_compaction.deltas.versions import uuid7_seconds
from chromadb_compaction.errors import ConfigurationError
from chromadb_compaction.ports import Services

MOST: Final = 1000
"""The most newer deltas that are counted."""


class NewerDeltas(NamedTuple):
    """The pending and merged deltas with a later name.

    Attributes:
        deltas: Their number, MOST if there are that many or more.
        oldest: The time in the name of the oldest of them, in Unix seconds.
    """

    deltas: int
    oldest: float


def newer_deltas(own: Sequence[str], services: Services) -> NewerDeltas | None:
    """Return the deltas that are newer than the first key of `own`, without these. `own` are of one collection.

    None: there are none, or the credentials may only write. Merged deltas are kept for some days only.
    """
    if not own:
        return None
    try:
        stems = sorted(islice(_stems_after(min(own), services), MOST + len(own)))
    except ConfigurationError:
        return None
    names = [stem for stem in stems if stem not in {layout.delta_stem(key) for key in own}][:MOST]
    times = [uuid7_seconds(UUID(name)) for name in names]
    return NewerDeltas(len(names), min(times)) if names else None


def _stems_after(first: str, services: Services) -> Iterator[str]:
    prefix = services.settings.delta_prefix
    for key in (first, layout.compacted_key(first, prefix=prefix)):
        for info in services.objects.list(f"{key.rpartition('/')[0]}/", start_after=key):
            stem = layout.delta_stem(info.key)
            if _is_delta_name(stem):
                yield stem


def _is_delta_name(stem: str) -> bool:
    try:
        return UUID(stem).version == 7
    except ValueError:
        return False
