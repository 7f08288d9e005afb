"""Several processes that embed texts and write deltas in parallel, without knowing of each other."""

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
"""This process's only writer."""


class WriteCount(NamedTuple):
    """The numbers of records and deltas that were written for one module."""

    records: int
    deltas: int


def run_producers(files: list[Path], *, processes: int) -> Iterator[WriteCount]:
    """Divide the files among `processes` producers, and yield the counts of each module when it is written."""
    # Spawned, not forked: real producers are separate programs too.
    with multiprocessing.get_context("spawn").Pool(processes, initializer=_make_writer) as pool:
        yield from pool.imap_unordered(_write_module, files, chunksize=4)


def _make_writer() -> None:
    _writers.append(DeltaWriter(space="cosine", embedding_function=WORDLLAMA, producer=f"demo {os.getpid()}"))


def _write_module(path: Path) -> WriteCount:
    """Write one module's docstrings as one delta."""
    found = docstrings(path)
    if not found:
        return WriteCount(0, 0)
    writer = _writers[0]
    documents = [docstring.document for docstring in found]
    writer.upsert(
        COLLECTION,
        [docstring.id for docstring in found],
        embed(documents, WORDLLAMA),
        documents=documents,
        metadatas=[docstring.metadata for docstring in found],
    )
    return WriteCount(len(found), len(writer.flush()))
