"""Pending deltas that a reader has fetched and parsed. They never change, so each is fetched once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from typing import Final, NamedTuple

from chromadb_compaction.concurrency import ahead
from chromadb_compaction.deltas.formats import Delta
from chromadb_compaction.errors import (
    CompactionError,
    CorruptDeltaError,
    DeltaFailedError,
    ObjectMissingError,
    UnreadableObjectError,
)
from chromadb_compaction.pending.listed import find_twins, judge, try_fetch
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services, StoredObject
from chromadb_compaction.settings import Settings

READERS: Final = 16
FETCHED: Final = 64
"""The most deltas that are fetched and not yet parsed."""
FETCHED_BYTES: Final = 8 * 1024 * 1024
"""The most that is fetched and not yet parsed."""

log = logging.getLogger(__name__)


Identity = tuple[str, str]
"""The key and the ETag of a delta."""


class ReadDelta(NamedTuple):
    """A listed delta with its rows, or with the `error` that keeps it out."""

    listed: ObjectInfo
    delta: Delta | None = None
    error: CompactionError | None = None

    @property
    def stays_pending(self) -> bool:
        """True if its rows may still be merged some day, although they cannot be read now."""
        return self.error is not None and not isinstance(self.error, CorruptDeltaError)


class KnownDeltas:
    """The deltas of one collection that were read, by key and ETag. One thread at a time may use it.

    Former deltas are those that were pending, and are not listed now. The last of them may be kept until
    `forget_former`, within the bounds of a read.
    """

    def __init__(self) -> None:
        self._known: dict[str, ReadDelta] = {}
        self._former: dict[str, ReadDelta] = {}

    @property
    def has_former(self) -> bool:
        """True if former deltas are kept."""
        return bool(self._former)

    def forget_all_but(self, listed: Sequence[ObjectInfo], settings: Settings, *, keep_former: bool) -> None:
        """Release the deltas that are not listed, or with `keep_former` keep the last of them."""
        kept = {each.key: each.etag for each in listed}
        gone = {key: read for key, read in self._known.items() if kept.get(key) != read.listed.etag}
        self._known = {key: read for key, read in self._known.items() if key not in gone}
        self._former |= gone if keep_former else {}
        size = sum(map(_bytes_of, self._former.values()))
        for key in list(self._former):
            if size <= settings.pending_bytes and len(self._former) <= settings.pending_deltas:
                break
            size -= _bytes_of(self._former.pop(key))

    def forget_former(self) -> None:
        """Release the former deltas."""
        self._former = {}

    def recall(self, merged: Collection[Identity]) -> list[ObjectInfo] | None:
        """Know these former deltas as if they were pending, until the next `forget_all_but`, and return them.

        None if one of them was released, or was never used.
        """
        found = [self._known.get(key) or self._former.get(key) for key, _ in merged]
        reads = [read for read in found if read is not None and read.delta is not None]
        if {(read.listed.key, read.listed.etag) for read in reads} != set(merged):
            return None
        self._known |= {read.listed.key: read for read in reads}
        return [read.listed for read in reads]

    def read(self, listed: Sequence[ObjectInfo], services: Services) -> Generator[ReadDelta, None, None]:
        """Yield each delta, in the order of `listed`. Fetch those that are not known, a few ahead.

        Raises ObjectMissingError if a delta has left delta/ or was written again since it was listed, and the errors
        of S3.
        """
        twins = find_twins(listed, {})
        # A twin that was written later changes the verdict.
        unknown = [each for each in listed if self._find(each) is None or each.key in twins]
        fetching = ahead(
            lambda each: try_fetch(each, services),
            unknown,
            weigh=lambda each: max(each.bytes, FETCHED_BYTES // FETCHED),
            most=FETCHED_BYTES,
            threads=READERS,
        )
        with closing(fetching) as fetched:
            for each in listed:
                known = None if each.key in twins else self._find(each)
                yield known or self._judge(each, next(fetched), services, twin=twins.get(each.key))

    def _find(self, listed: ObjectInfo) -> ReadDelta | None:
        found = self._known.get(listed.key)
        return found if found is not None and found.listed.etag == listed.etag else None

    def _judge(
        self,
        listed: ObjectInfo,
        stored: StoredObject | UnreadableObjectError | None,
        services: Services,
        *,
        twin: str | None,
    ) -> ReadDelta:
        try:
            # A reader may not read compacted/. `select` compares a delta that may have been merged with the ledger.
            delta = judge(listed, stored, None, services, twin=twin)
        except UnreadableObjectError as error:
            log.warning("%s is left out: %s", listed.key, error)
            return ReadDelta(listed, error=error)  # it is tried again, because somebody may have repaired it
        except (CorruptDeltaError, DeltaFailedError) as error:
            log.warning("%s is left out: %s", listed.key, error)
            read = ReadDelta(listed, error=error)
        else:
            if delta is None:
                raise ObjectMissingError(f"{listed.key} was moved or written again since it was listed", key=listed.key)
            read = ReadDelta(listed, delta)
        self._known[listed.key] = read
        return read


def _bytes_of(read: ReadDelta) -> int:
    return read.delta.table.nbytes if read.delta is not None else 0
