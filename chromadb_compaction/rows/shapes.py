"""The shape that deltas must fit and what they change of it, as the states of one pass exchange both under work/."""

from __future__ import annotations

from typing import Self

from pydantic import TypeAdapter

from chromadb_compaction.configuration import DeltaVersion, KeptSettings, newer_version
from chromadb_compaction.manifest import CollectionSnapshot
from chromadb_compaction.messages import CollectionShape, Message


class StoredShape(CollectionShape):
    """A shape with everything that a delta may contradict. It is stored, because settings may be large.

    Attributes:
        settings: The settings that the deltas must fit.
        dropped_before: The newest drop, published or in this pass. Older deltas change nothing and fit any shape.
    """

    settings: KeptSettings = KeptSettings()
    dropped_before: DeltaVersion | None = None

    @classmethod
    def published(cls, name: str, known: CollectionSnapshot | None, dropped_before: DeltaVersion | None = None) -> Self:
        """Return the shape of a published collection. None, or one that has only ever seen deletes: nothing stands."""
        if known is None or not known.has_shape:
            return cls(
                collection=name,
                dimension=None,
                space="l2",
                embedding_function=None,
                records=0,
                dropped_before=dropped_before,
            )
        return cls(
            collection=name,
            dimension=known.dimension,
            space=known.space,
            embedding_function=known.embedding_function,
            records=known.records,
            settings=known.settings_with_function,
            dropped_before=dropped_before,
        )

    @property
    def is_stated(self) -> bool:
        """True if its distance and settings stand. If not, the collection has only ever seen deletes."""
        return self.dimension is not None or self.settings.stated is not None

    def summary(self) -> CollectionShape:
        """Return the shape as the state machine passes it on."""
        return CollectionShape.model_validate(self.model_dump(include=set(CollectionShape.model_fields)))


SHAPES = TypeAdapter(list[StoredShape])
"""The stored list of shapes that DownloadSnapshot writes for MergeBatch and UploadSnapshot."""


class CollectionChange(Message):
    """The changes of one batch to its collection beside the rows. It is stored, because settings may be large.

    Attributes:
        settings: The newest settings that its deltas state.
        dropped_before: The newest drop among its deltas, or the one for which it left out a delta.
    """

    settings: KeptSettings = KeptSettings()
    dropped_before: DeltaVersion | None = None

    def merged(self, other: CollectionChange) -> CollectionChange:
        """Return the changes of both. The order does not matter."""
        return CollectionChange(
            settings=self.settings.merged(other.settings),
            dropped_before=newer_version(self.dropped_before, other.dropped_before),
        )
