from __future__ import annotations

from collections.abc import Iterator

import pytest

from chromadb_compaction.pending.reader import FreshReader


@pytest.fixture
def reader() -> Iterator[FreshReader]:
    """A reader of snapshots and pending deltas that no other test uses."""
    reader = FreshReader()
    yield reader
    reader.close()
