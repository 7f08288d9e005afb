"""A client over a bucket in memory, for the tests of programs that use ChromaDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chromadb_compaction.client.chroma_client import Client
from tests.fakes.bucket_client import bucket_in_memory, client_of


@pytest.fixture
def client() -> Iterator[Client]:
    with client_of(bucket_in_memory()) as opened:
        yield opened
