"""The collections of one bucket, for many threads: read through the fresh reader, and written as deltas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Lock, RLock
from typing import Any, Final, NamedTuple
from uuid import UUID

from chromadb_compaction.client.chroma_api.chroma_errors import NotFoundError, RateLimitError, UniqueConstraintError
from chromadb_compaction.client.chroma_api.collection_models import collection_id
from chromadb_compaction.client.chroma_api.following_writer import FollowingWriter
from chromadb_compaction.errors import NoSnapshotError, NoSuchCollectionError
from chromadb_compaction.pending.reader import CollectionDescription, FreshCollection, FreshReader, ReadLevel
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import MEBIBYTE, Settings

PRODUCER = "chromadb_compaction.Client"

BOUNDS: Final = {"pending_rows": 100_000, "pending_bytes": 256 * MEBIBYTE, "pending_deltas": 2_000}
"""The bounds of fresh reads here, where the settings do not set them. Their defaults are those of a small function."""


class KnownCollection(NamedTuple):
    """A collection as it was when it was read.

    Attributes:
        name: Its name.
        identity: Its UUID.
        description: Everything that is known of it beside its records.
    """

    name: str
    identity: UUID
    description: CollectionDescription


class CollectionStore:
    """Reads and writes the collections of a bucket. Threads share one.

    Of the writes to one collection through one store, each sees what the earlier ones wrote. A read that begins after
    a write has returned sees it.

    Args:
        services: The bucket and the queue to notify.
        read_level: The level of reads: "fresh" or "snapshot".
        reader: The reader to use. None: a new one.
    """

    def __init__(
        self, services: Services, *, read_level: ReadLevel = "fresh", reader: FreshReader | None = None
    ) -> None:
        self.read_level = read_level
        self._services = services._replace(settings=_with_bounds(services.settings))
        self._reader = reader or FreshReader()
        # Guards the fields below. It is never held during a request.
        self._state = Lock()
        self._locks: defaultdict[str, RLock] = defaultdict(RLock)
        self._names: dict[UUID, str] = {}
        self._writers: dict[str, FollowingWriter] = {}
        self._written: defaultdict[str, int] = defaultdict(int)
        self._seen: defaultdict[str, int] = defaultdict(int)

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        return self._services.settings.chromadb_bucket

    def close(self) -> None:
        """Free the reader's copies of snapshots."""
        self._reader.close()

    def collections(self) -> dict[str, KnownCollection]:
        """Return all collections as they are now, by name in alphabetical order."""
        found = self._reader.collections(self._services)
        known = {name: self._known(name, found[name]) for name in sorted(found)}
        with self._state:
            self._names.update((each.identity, each.name) for each in known.values())
        return known

    def named(self, name: str, *, refresh: bool = False) -> KnownCollection:
        """Return a collection by its name. Raises NotFoundError."""
        known = self._find(name, refresh=refresh)
        if known is None:
            raise NotFoundError(f"Collection [{name}] does not exist")
        return known

    def identified(self, identity: UUID) -> KnownCollection:
        """Return a collection by its UUID. Raises NotFoundError."""
        known = self._find(self._name_of(identity), refresh=False)
        if known is None or known.identity != identity:
            raise _missing(identity)
        return known

    @contextmanager
    def reading(self, identity: UUID, read_level: ReadLevel | None = None) -> Iterator[FreshCollection | None]:
        """Yield a collection to read. None if the published snapshot, which is asked alone, does not have it yet.

        Raises NotFoundError if there is no collection with this UUID.
        """
        level = read_level or self.read_level
        with self._open(identity, level) as found:
            if found is not None:
                yield found
                return
        if level == "fresh":
            raise _missing(identity)
        self.identified(identity)
        yield None

    @contextmanager
    def changing(self, identity: UUID) -> Iterator[tuple[FreshCollection, FollowingWriter]]:
        """Yield a collection as it is now, and the writer of its changes, which are written at the end of the block.

        No other thread changes it through this store meanwhile. Raises NotFoundError as `reading` does, and
        RateLimitError if more is pending than a fresh read joins: a change of what was read would undo the rest.
        """
        name = self._name_of(identity)
        with self._lock_of(name), self._open(identity, "fresh", refresh=True) as found:
            if found is None:
                raise _missing(identity)
            if found.beyond:
                raise RateLimitError(
                    f"the bounds of a fresh read leave out {found.beyond} of the pending deltas of {name!r}; run"
                    " `chromadb-compaction compact`, and repeat the call"
                )
            with self._writing(name) as writer:
                yield found, writer

    def create(
        self, name: str, *, configuration: Mapping[str, Any], metadata: Mapping[str, Any], get_or_create: bool
    ) -> KnownCollection:
        """Create a collection. Raises UniqueConstraintError if it exists, unless `get_or_create` is true."""
        with self._lock_of(name):
            known = self._find(name, refresh=True)
            if known is not None and get_or_create:
                return known
            if known is not None:
                raise UniqueConstraintError(f"Collection [{name}] already exists")
            with self._writing(name) as writer:
                writer.create_collection(name, configuration=configuration, metadata=metadata)
            return self.named(name)

    def restate(
        self, identity: UUID, *, configuration: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None
    ) -> None:
        """Change settings of a collection. None: no change. Raises NotFoundError."""
        with self.changing(identity) as (found, writer):
            writer.create_collection(found.name, configuration=configuration, metadata=metadata)

    def drop(self, name: str) -> None:
        """Drop a collection. Raises NotFoundError."""
        with self._lock_of(name):
            known = self.named(name, refresh=True)
            self._drop(known)

    def drop_all(self) -> None:
        """Drop every collection."""
        for name in self.collections():
            with self._lock_of(name):
                known = self._find(name, refresh=True)
                if known is not None:
                    self._drop(known)

    def _drop(self, known: KnownCollection) -> None:
        with self._writing(known.name) as writer:
            writer.drop_collection(known.name)
        with self._state:
            self._names.pop(known.identity, None)
            self._writers.pop(known.name, None)

    @contextmanager
    def _open(self, identity: UUID, level: ReadLevel, *, refresh: bool = False) -> Iterator[FreshCollection | None]:
        """Yield the collection with this UUID. None if another one, or none, has its name at this level."""
        name = self._name_of(identity)
        written = self._unseen(name)
        with ExitStack() as stack:
            try:
                found = stack.enter_context(
                    self._reader.reading(self._services, name, read_level=level, refresh=refresh or written is not None)
                )
            except (NoSuchCollectionError, NoSnapshotError):
                yield None
                return
            if level == "fresh":
                self._mark_seen(name, written)
            yield found if self._known(name, found.description).identity == identity else None

    @contextmanager
    def _writing(self, name: str) -> Iterator[FollowingWriter]:
        """Yield the writer of a collection, whose lock the caller holds. Flush it afterwards.

        What it writes is newer than all that the caller has read, whatever the clocks of other writers say. After an
        error it is replaced by a new one: what it has not written must not be written by a later call.
        """
        with self._state:
            writer = self._writers.pop(name, None) or self._new_writer()
        writer.follow(self._reader.newest_version(name))
        try:
            yield writer
            writer.flush()
        finally:
            with self._state:
                self._written[name] += 1
        with self._state:
            self._writers[name] = writer

    def _new_writer(self) -> FollowingWriter:
        services = self._services
        queue = services.queue if services.settings.delta_queue_url else None
        # What a fresh read has shown is checked already.
        return FollowingWriter(
            services.settings, objects=services.objects, queue=queue, producer=PRODUCER, check_published=False
        )

    def _known(self, name: str, description: CollectionDescription) -> KnownCollection:
        return KnownCollection(name, collection_id(self.bucket, name, description.dropped_before), description)

    def _find(self, name: str, *, refresh: bool) -> KnownCollection | None:
        """Return a collection without downloading it. None if there is none."""
        written = self._unseen(name)
        try:
            description = self._reader.describe(self._services, name, refresh=refresh or written is not None)
        except NoSuchCollectionError:
            description = None
        self._mark_seen(name, written)
        if description is None:
            return None
        known = self._known(name, description)
        with self._state:
            self._names[known.identity] = name
        return known

    def _name_of(self, identity: UUID) -> str:
        """Return the name of the collection that has, or had, this UUID. Raises NotFoundError."""
        with self._state:
            name = self._names.get(identity)
        if name is not None:
            return name
        for known in self.collections().values():
            if known.identity == identity:
                return known.name
        raise _missing(identity)

    def _lock_of(self, name: str) -> RLock:
        with self._state:
            return self._locks[name]

    def _unseen(self, name: str) -> int | None:
        """Return the number of writes to a collection that a read must see. None if a read has seen all of them."""
        with self._state:
            written = self._written[name]
            return written if written > self._seen[name] else None

    def _mark_seen(self, name: str, written: int | None) -> None:
        with self._state:
            self._seen[name] = max(self._seen[name], written or 0)


def _with_bounds(settings: Settings) -> Settings:
    chosen = {name: value for name, value in BOUNDS.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=chosen)


def _missing(identity: UUID) -> NotFoundError:
    return NotFoundError(f"Collection [{identity}] does not exist.")
