"""The counts of a pass, by collection, as the workflow's message lists them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from chromadb_compaction.fold.fold import FoldResult
from chromadb_compaction.fold.units import FoldUnit, directories_of
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.messages import LISTED_COLLECTIONS, CollectionCounts
from chromadb_compaction.rows.id_ranges import IdRange


def counts_of(results: Sequence[FoldResult], untouched: Mapping[str, int]) -> list[CollectionCounts]:
    """Return the counts of the collections that changed most, and of all others together as the last entry.

    `untouched` has the records of the directories of a collection that no fold has touched.
    """
    of_collection: dict[str, list[CollectionCounts]] = defaultdict(list)
    for result in results:
        of_collection[result.collection].append(_count(result))
    found = [_sum(each, name, records=untouched.get(name, 0)) for name, each in of_collection.items()]
    counts = sorted(found, key=lambda count: -count.added - count.replaced - count.deleted)
    if len(counts) <= LISTED_COLLECTIONS:
        return sorted(counts, key=lambda count: count.collection)
    listed, others = counts[: LISTED_COLLECTIONS - 1], counts[LISTED_COLLECTIONS - 1 :]
    last = _sum(others, f"({len(others)} other collections)", collections=len(others))
    return [*sorted(listed, key=lambda count: count.collection), last]


def untouched_records(units: Sequence[FoldUnit], base: Manifest | None) -> dict[str, int]:
    """Return the records of those directories of each partitioned collection that are not among the units."""
    ids: dict[str, list[IdRange]] = defaultdict(list)
    for unit in units:
        if not unit.is_whole:
            ids[unit.collection].append(unit.ids)
    return {
        name: sum(
            each.records
            for each, span in directories_of(base.collections.get(name) if base else None)
            if not any(span.overlaps(other) for other in folded)
        )
        for name, folded in ids.items()
    }


def _count(result: FoldResult) -> CollectionCounts:
    counts = result.counts
    return CollectionCounts(
        collection=result.collection,
        added=counts.added,
        replaced=counts.replaced,
        deleted=counts.deleted,
        unchanged=counts.unchanged,
        older=counts.stale,
        records=counts.records,
        loader=result.loader,
    )


def _sum(counts: Sequence[CollectionCounts], name: str, *, collections: int = 1, records: int = 0) -> CollectionCounts:
    loaders = {count.loader for count in counts if count.loader}
    return CollectionCounts(
        collection=name,
        collections=collections,
        added=sum(count.added for count in counts),
        replaced=sum(count.replaced for count in counts),
        deleted=sum(count.deleted for count in counts),
        unchanged=sum(count.unchanged for count in counts),
        older=sum(count.older for count in counts),
        records=sum(count.records for count in counts) + records,
        # The least name, because ChromaDB's own API is what an operator should hear of: "api" comes before "bulk".
        loader=min(loaders, default=None),
    )
