"""A ChromaDB client over a bucket in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chromadb_compaction.client.chroma_client import Client
from tests.fakes.services import Fakes, new_fakes


def bucket_in_memory(**settings: object) -> Fakes:
    """Return the fakes of a bucket whose clock is this machine's, as the clock that names deltas is."""
    fakes = new_fakes(**settings)
    fakes.objects = type(fakes.objects)(time.time)
    return fakes


@contextmanager
def client_of(fakes: Fakes, **options: Any) -> Iterator[Client]:
    """Yield a client of the bucket."""
    with Client(services=fakes.services._replace(clock=time.time), **options) as client:
        yield client
