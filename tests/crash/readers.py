"""A reader that starts in every distinct state of the bucket: whatever a fault leaves, a fresh read is complete."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from chromadb_compaction import layout
from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.errors import CompactionError
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.ports import Services
from tests.crash.truth import POINTER, Truth
from tests.crash.world import World
from tests.e2e.model import Record, expected
from tests.fakes.aws.in_process import Saved, carry_out
from tests.fakes.aws.protocol import Call

Content = dict[str, dict[str, Record]]


class FreshReads:
    """Checks after every call to S3 what a reader that starts now would answer.

    An answer depends only on the pointer and on the pending deltas, so each distinct pair is read once.

    Args:
        truth: The deltas that producers wrote.
        directory: A directory for the reader's copies.
    """

    def __init__(self, truth: Truth, directory: Path) -> None:
        merged = [delta for delta in truth.good if delta.key not in truth.undone]
        self._expected = [_without_empty(expected(deltas)) for deltas in (merged, truth.good)]
        self._directory = directory
        self._known: dict[tuple[tuple[str, str], ...], str | None] = {}

    def __len__(self) -> int:
        return len(self._known)

    def watch(self, world: World, call: Call, _before: Saved) -> None:
        """Add the problem that a reader would have after this call to the problems of the world."""
        if call.service != "s3":
            return
        objects = world.aws.s3.buckets.objects["bucket"]
        decisive = (key for key in objects if key == POINTER or key.startswith(layout.DELTA_PREFIX))
        state = tuple((key, objects[key].etag) for key in sorted(decisive))
        if state not in self._known:
            self._known[state] = self._problem(world)
        if problem := self._known[state]:
            world.problems.append(f"after {call} by {world.actor}: incomplete read: {problem}")

    def _problem(self, world: World) -> str | None:
        """Return what is wrong with the answers of a reader that starts now. The world does not notice it."""
        settings = world.settings.model_copy(update={"chromadb_cache_dir": str(self._directory)})
        intercept, tokens = world.aws.intercept, world.tokens
        world.aws.intercept = carry_out
        shutil.rmtree(self._directory, ignore_errors=True)
        try:
            found = _content(world.aws.services(settings))
        except CompactionError as error:
            return f"{type(error).__name__}: {error}"
        finally:
            world.aws.intercept, world.tokens = intercept, tokens
        return None if found in self._expected else f"{found}"


def _without_empty(content: Content) -> Content:
    return {name: records for name, records in content.items() if records}


def _content(services: Services) -> Content:
    reader = FreshReader()
    try:
        names = reader.collections(services)
        return _without_empty({name: _records(reader, services, name) for name in names})
    finally:
        reader.close()


def _records(reader: FreshReader, services: Services, name: str) -> dict[str, Record]:
    with reader.reading(services, name, refresh=True) as collection:
        found = collection.get(Filters(), limit=None, offset=None, include=["embeddings", "documents", "metadatas"])
    vectors = np.asarray(found["embeddings"], dtype=np.float32).tolist()
    rows = zip(found["ids"], vectors, found["documents"] or [], found["metadatas"] or [], strict=True)
    return {
        row_id: (tuple(vector), document, dict(metadata) if metadata else None)
        for row_id, vector, document, metadata in rows
    }
