"""A collection as a fresh read sees it: the published snapshot joined with the pending rows that it does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from chromadb_compaction.chroma.client import OpenCollection
from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.chroma.records.columns import chosen, empty, get_result, joined, nearest_of, query_result
from chromadb_compaction.chroma.records.partitions import Partition, partitions_of
from chromadb_compaction.configuration import (
    CollectionConfiguration,
    CollectionMetadata,
    DeltaVersion,
    KeptSettings,
    Space,
)
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.pending.order import UNCHANGED, Kinds, folded_order, kinds_of
from chromadb_compaction.pending.overlay import Overlay
from chromadb_compaction.pending.pending_side import PassFilter, PendingSide, Positions
from chromadb_compaction.pending.snapshot_side import Page, SnapshotSide, existing
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange
from chromadb_compaction.rows.shapes import StoredShape

if TYPE_CHECKING:
    from chromadb_compaction.chroma.client import GetResult, QueryResult


class CollectionDescription(NamedTuple):
    """The properties of a collection, published or pending.

    Attributes:
        dimension: The length of its vectors. None until its first upsert.
        space: The distance function.
        embedding_function: The name of the function that embeds its texts, if known.
        settings: Its other settings, and the whole of its embedding function.
        dropped_before: The version at which it was dropped last. Older rows stay out for good.
    """

    dimension: int | None
    space: Space
    embedding_function: str | None
    settings: KeptSettings = KeptSettings()
    dropped_before: DeltaVersion | None = None

    @property
    def configuration(self) -> CollectionConfiguration:
        """The configuration in ChromaDB's form."""
        return self.settings.configuration(self.space)

    @property
    def metadata(self) -> CollectionMetadata:
        """The metadata. {}: none."""
        return self.settings.metadata_value


class PendingCounts(NamedTuple):
    """The pending deltas of a collection.

    Attributes:
        applied: Those that the answer includes.
        left: Those that it does not, because they exceed the bounds or cannot be read.
    """

    applied: int
    left: int


class FreshCollection:
    """One collection, as long as the `with` block of `FreshReader.reading` lasts. Threads may share it.

    Every answer equals that of the collection after a compaction of the deltas in `pending.applied`.

    Attributes:
        name: The name of the collection.
        snapshot_id: The snapshot that is joined: the published one, or an older one while that is downloaded. None if
            nothing is published yet.
        description: Its properties.
        pending: The pending deltas, and those that a newer snapshot than this holds.
        pending_rows: The number of ids for which the applied ones have a row.
        beyond: The number of those left that exceed the bounds: every answer is older than they are.
    """

    def __init__(
        self,
        name: str,
        snapshot_id: str | None,
        collection: OpenCollection | None,
        overlay: Overlay,
        passing: PassFilter,
    ) -> None:
        selection = overlay.selection
        self.name = name
        self.snapshot_id = snapshot_id
        self.description = describe(overlay.shape, selection.settings)
        self.pending = PendingCounts(selection.applied, selection.left)
        self.pending_rows = overlay.merged.num_rows
        self.beyond = selection.beyond
        self._collection = None if overlay.restarts else collection
        self._overlay = overlay
        self._pending_side = PendingSide(overlay, passing)

    def count(self) -> int:
        """Return the number of records."""
        return SnapshotSide(self._collection, self._replaced).count() + self._overlay.live.num_rows

    def get(self, filters: Filters, *, limit: int | None, offset: int | None, include: Sequence[str]) -> GetResult:
        """Return the records that pass the filters, in the form of ChromaDB's `get`.

        The order is that of the snapshot, then of the pending rows as a compaction would add them, in each partition of
        the collection by itself. Raises InvalidRequestError with ChromaDB's message if it refuses a filter.
        """
        at = self._pending_side.matching(filters)
        kinds = kinds_of(self._overlay, at, self._collection, self._replaced)
        found = [empty(("ids", *include))]
        offset = offset or 0
        for partition in partitions_of(self._collection):
            within = _within(filters, partition.ids)
            if filters.ids and not within.ids:
                continue
            page = self._page(partition, within, at, kinds, limit=limit, offset=offset, include=include)
            found.append(page.records)
            limit = None if limit is None else limit - len(page.records["ids"])
            if page.total is None or limit == 0:
                break
            offset = max(0, offset - page.total)
        return get_result(joined(*found), include)

    def _page(
        self,
        partition: Partition,
        filters: Filters,
        at: Positions,
        kinds: Kinds,
        *,
        limit: int | None,
        offset: int,
        include: Sequence[str],
    ) -> Page:
        """Return a page of one partition. `at` are the pending rows that pass, of all partitions."""
        live_ids, hidden = self._overlay.live_ids, self._replaced
        if partition.ids != ALL_IDS:
            some = slice(*np.searchsorted(at, partition.ids.positions(live_ids)))
            at, kinds = at[some], kinds[some]
            hidden = frozenset(filter(partition.ids.holds, hidden))
        unchanged = frozenset(live_ids[position] for position in at[kinds == UNCHANGED])
        snapshot = SnapshotSide(partition.collection, hidden - unchanged)
        page = snapshot.page(filters, limit=limit, offset=offset, include=include)
        if page.total is None:
            return page
        rest = folded_order(at[kinds != UNCHANGED], kinds[kinds != UNCHANGED])
        start = max(0, offset - page.total)
        end = None if limit is None else start + limit - len(page.records["ids"])
        pending = self._pending_side.records(rest[start:end], include)
        return Page(joined(page.records, pending), page.total + len(rest))

    def query(self, vectors: Vector, *, n_results: int, filters: Filters, include: Sequence[str]) -> QueryResult:
        """Return at most `n_results` records for each row of `vectors`, the nearest first, in ChromaDB's form.

        Raises InvalidRequestError for another dimension than the collection's, or with ChromaDB's message if it refuses
        a filter.
        """
        self._check_dimension(vectors)
        fields = list(dict.fromkeys([*include, "distances"]))
        at = self._pending_side.matching(filters)
        found = SnapshotSide(self._collection, self._replaced).nearest(
            vectors, n_results=n_results, filters=filters, include=fields
        )
        if not len(at):
            return query_result([chosen(each, range(len(each["ids"][:n_results]))) for each in found], include)
        measured = self._pending_side.distances(vectors, at)
        nearest = np.argsort(measured, axis=1, kind="stable")[:, :n_results]
        questions = []
        for each, row, order in zip(found, measured, nearest, strict=True):
            pending = self._pending_side.records(at[order], fields) | {"distances": row[order].tolist()}
            questions.append(nearest_of(joined(each, pending), n_results))
        return query_result(questions, include)

    @cached_property
    def _replaced(self) -> frozenset[str]:
        """The ids of the snapshot's records for which there is a newer version."""
        return self._overlay.replaced(lambda: existing(self._collection, sorted(self._overlay.ids)))

    def _check_dimension(self, vectors: Vector) -> None:
        dimension = self.description.dimension
        if dimension is not None and vectors.shape[1] != dimension:
            raise InvalidRequestError(
                f"a query embedding has {vectors.shape[1]} dimensions, but the collection {self.name!r} has {dimension}"
            )


def _within(filters: Filters, ids: IdRange) -> Filters:
    """Return the filters for one partition."""
    if not filters.ids or ids == ALL_IDS:
        return filters
    return filters._replace(ids=[each for each in filters.ids if ids.holds(each)])


def describe(shape: StoredShape, settings: KeptSettings) -> CollectionDescription:
    """Return the properties of a collection of this shape, with these settings."""
    return CollectionDescription(shape.dimension, shape.space, shape.embedding_function, settings, shape.dropped_before)
