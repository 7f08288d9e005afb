"""Ids as people type them: whole, shortened to their beginning, as a sequence number, or as `latest`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from chromadb_compaction import layout
from chromadb_compaction.errors import AmbiguousIdError
from chromadb_compaction.snapshots.catalogue import Catalogue
from chromadb_compaction.snapshots.pointer import StoredManifest

LATEST = "latest"
SHORTEST = 4
"""The fewest characters of the beginning of an id that stand for it."""


def find_id(typed: str, ids: Collection[str]) -> str | None:
    """Return the id that is `typed`, or the only one that begins with it. None if there is none.

    Raises AmbiguousIdError, which names the ids, if several begin with it.
    """
    return typed if typed in ids else _only(typed, _beginning_with(typed, ids))


def find_snapshot(typed: str | None, catalogue: Catalogue) -> StoredManifest:
    """Return the snapshot with that id, beginning of an id or sequence number. None and `latest`: the published one.

    Raises the errors of `Catalogue.find`, and AmbiguousIdError.
    """
    if typed is None or typed == LATEST:
        return catalogue.find(None)
    ids = {*catalogue.readable, *catalogue.damaged}
    numbered = [each for each in ids if typed.isdecimal() and each.startswith(f"{typed:0>10}-")]
    return catalogue.find((_only(typed, numbered) if typed not in ids else None) or find_id(typed, ids) or typed)


def find_deltas(typed: str, keys: Collection[str]) -> list[str]:
    """Return the keys of one delta: its key or UUID is `typed` or begins with it. `latest`: the one written last.

    A UUID may stand in several collections, and then means all of them. Empty if there is none. Raises
    AmbiguousIdError.
    """
    stems = {layout.delta_stem(key) for key in keys}
    found = max(stems, default=None) if typed == LATEST else find_id(typed, keys if "/" in typed else stems)
    return [key for key in keys if found in (key, layout.delta_stem(key))]


def _beginning_with(typed: str, ids: Iterable[str]) -> list[str]:
    return [each for each in ids if each.startswith(typed)] if len(typed) >= SHORTEST else []


def _only(typed: str, found: Collection[str]) -> str | None:
    if len(found) > 1:
        raise AmbiguousIdError.of(typed, found)
    return next(iter(found), None)
