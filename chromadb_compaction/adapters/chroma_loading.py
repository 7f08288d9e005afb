"""Choosing the loader for a directory: in bulk where that is proven, through ChromaDB's API everywhere else."""

from __future__ import annotations

import logging
from pathlib import Path

from chromadb_compaction.chroma.bulk_loader import BulkLoader
from chromadb_compaction.chroma.client import CollectionSpec, create_directory
from chromadb_compaction.chroma.compatibility import refusal
from chromadb_compaction.chroma.loader import ApiLoader, Loader

log = logging.getLogger(__name__)


def choose_loader(directory: Path, spec: CollectionSpec) -> Loader:
    """Return the fastest loader that is safe for a directory, which is made, with an empty collection, if missing."""
    create_directory(directory, spec)
    reason = refusal(directory, spec)
    if reason is None:
        return BulkLoader()
    log.warning("%s: loading through ChromaDB's API, which takes more than twice as long: %s", spec.name, reason)
    return ApiLoader()
