from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chromadb_compaction.snapshots import files
from chromadb_compaction.snapshots.reader import SnapshotReader
from tests.fakes.services import Fakes, new_fakes


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    """An empty bucket, and a cache directory of the test's own."""
    return new_fakes(chromadb_cache_dir=tmp_path / "cache")


@pytest.fixture
def reader() -> Iterator[SnapshotReader]:
    """A reader that no other test uses."""
    reader = SnapshotReader()
    yield reader
    reader.close()


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store every file as an object, as those of large collections are."""
    monkeypatch.setattr(files, "PACK_BYTES", -1)
