"""Several processes that embed text and write deltas, all at once, each unaware of the others."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction.chroma.embedding import WORDLLAMA, embed
from chromadb_compaction.client.writer import DeltaWriter
from demo.corpus import docstrings

COLLECTION = "python-docs"

_writers: list[DeltaWriter] = []
"""The one writer of this process."""


class Written(NamedTuple):
    """What one module's docstrings became, and which process wrote them."""

    producer: int
    records: int
    deltas: int


def run_producers(files: list[Path], *, processes: int) -> Iterator[Written]:
    """Share the files among `processes` producers and yield what they have written, as it is written."""
    # Spawned, not forked: each is a program of its own, as producers are.
    with multiprocessing.get_context("spawn").Pool(processes, initializer=_start) as pool:
        yield from pool.imap_unordered(_write_module, files, chunksize=4)


def _start() -> None:
    _writers.append(DeltaWriter(space="cosine", embedding_function=WORDLLAMA, producer=f"demo {os.getpid()}"))


def _write_module(path: Path) -> Written:
    """Write one module's docstrings as one delta."""
    found = docstrings(path)
    if not found:
        return Written(os.getpid(), 0, 0)
    writer = _writers[0]
    documents = [docstring.document for docstring in found]
    writer.upsert(
        COLLECTION,
        [docstring.id for docstring in found],
        embed(documents, WORDLLAMA),
        documents=documents,
        metadatas=[docstring.metadata for docstring in found],
    )
    return Written(os.getpid(), len(found), len(writer.flush()))
