"""The rules of ChromaDB's `add`, `upsert` and `update`, on whole records, which is what a delta carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chromadb_compaction.deltas.records import Vector

Metadata = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One record, or the part of one that a call gives. None: not given, or not there.

    Attributes:
        id: The id.
        vector: The embedding, of shape (dimension,).
        document: The text.
        metadata: The metadata. A key with the value None is one to remove.
        uri: The URI.
    """

    id: str
    vector: Vector | None = None
    document: str | None = None
    metadata: Metadata | None = None
    uri: str | None = None

    def changed_by(self, change: Record) -> Record:
        """Return this record with what `change` gives. Metadata is merged, key by key."""
        return Record(
            id=self.id,
            vector=self.vector if change.vector is None else change.vector,
            document=self.document if change.document is None else change.document,
            metadata=merged_metadata(self.metadata, change.metadata),
            uri=self.uri if change.uri is None else change.uri,
        )


def merged_metadata(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Metadata | None:
    """Return `old` with the keys of `new`. A key whose new value is None is removed. None: no key is left."""
    merged = {**(old or {}), **(new or {})}
    return {key: value for key, value in merged.items() if value is not None} or None


def added(given: Iterable[Record], existing: Mapping[str, Record]) -> list[Record]:
    """Return the records to write for `add`: an existing record stays as it is, and the first of two new ones wins."""
    return _apply(given, existing, lambda old, new: new if old is None else None)


def upserted(given: Iterable[Record], existing: Mapping[str, Record]) -> list[Record]:
    """Return the records to write for `upsert`: an existing record is changed, others are new."""
    return _apply(given, existing, lambda old, new: new if old is None else old.changed_by(new))


def updated(given: Iterable[Record], existing: Mapping[str, Record]) -> list[Record]:
    """Return the records to write for `update`: an existing record is changed, others are left out."""
    return _apply(given, existing, lambda old, new: None if old is None else old.changed_by(new))


def _apply(
    given: Iterable[Record], existing: Mapping[str, Record], rule: Callable[[Record | None, Record], Record | None]
) -> list[Record]:
    """Return one record per id that the rule changes, in the order of their first change.

    The rule takes the record as it is, with the changes so far, or None, and returns the new one, or None for none.
    """
    changed: dict[str, Record] = {}
    for record in given:
        result = rule(changed.get(record.id) or existing.get(record.id), record)
        if result is not None:
            changed[record.id] = replace(result, metadata=merged_metadata(result.metadata, None))
    return list(changed.values())


def matrix(records: Sequence[Record]) -> Vector:
    """Return the embeddings of records that all have one, as float32 of shape (records, dimension)."""
    return np.stack([record.vector for record in records if record.vector is not None])
