"""Read a whole published collection back and compare it with its ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction.chroma.client import Collection, open_collection
from chromadb_compaction.chroma.export.proof import Texts, prove_texts
from chromadb_compaction.chroma.loader import batches
from chromadb_compaction.chroma.verification import rows_per_read
from chromadb_compaction.configuration import Space
from chromadb_compaction.rows.fingerprints import VECTOR_BYTES, vector_fingerprint
from chromadb_compaction.rows.ledger import identities

SHOWN = 10


class Audit(NamedTuple):
    """The result of reading the records back. `problems` holds the first few.

    `unproven_vectors` counts vectors of cosine collections, whose fingerprint is lost because ChromaDB normalises
    them: they were only checked to have the right length and to be finite. `unproven_texts` counts records whose
    metadata has too many inexactly read floats to find the fingerprint again.
    """

    records: int
    unproven_vectors: int
    unproven_texts: int
    problems: tuple[str, ...]


class _Row(NamedTuple):
    row_id: str
    vector: Any
    document: str | None
    metadata: Mapping[str, Any] | None
    uri: str | None


def audit(directory: Path, name: str, ledger: pa.Table, *, dimension: int, space: Space) -> Audit:
    """Compare every record of the collection in `directory` with the ledger's live rows.

    ChromaDB writes to the directory, so it must be a private copy.
    """
    live = ledger.filter(pc.invert(ledger["deleted"]))
    expected = dict(identities(live))
    with open_collection(directory, name) as collection:
        ids: list[str] = collection.get(include=[])["ids"]
        problems = _compare_ids(name, ids, expected, counted=collection.count())
        vectors = texts = 0
        for row in _read_rows(collection, sorted(expected.keys() & set(ids)), dimension):
            same_vector = _same_vector(row.vector, expected[row.row_id][:VECTOR_BYTES], dimension, space)
            same_texts = prove_texts(
                Texts(row.document, row.metadata, row.uri), expected[row.row_id][VECTOR_BYTES:]
            ).same
            vectors += same_vector is None
            texts += same_texts is None
            if same_vector is False:
                problems.append(f"{name}: id {row.row_id!r} has a different vector than was merged")
            if same_texts is False:
                problems.append(f"{name}: id {row.row_id!r} has a different document, metadata or URI than was merged")
    return Audit(len(expected), vectors, texts, tuple(problems[:SHOWN]))


def _compare_ids(name: str, ids: list[str], expected: Mapping[str, bytes], *, counted: int) -> list[str]:
    problems = []
    if not counted == len(ids) == len(expected):
        problems.append(f"{name}: ChromaDB counts {counted} records, the ledger {len(expected)} live rows")
    missing, unknown = sorted(expected.keys() - set(ids)), sorted(set(ids) - expected.keys())
    problems += [f"{name}: id {each!r} is missing" for each in missing[:SHOWN]]
    return problems + [f"{name}: id {each!r} is in the collection but not in the ledger" for each in unknown[:SHOWN]]


def _read_rows(collection: Collection, ids: list[str], dimension: int) -> Iterator[_Row]:
    for part in batches(ids, rows_per_read(dimension)):
        found: Any = collection.get(ids=list(part), include=["embeddings", "documents", "metadatas", "uris"])
        columns = (found[name] for name in ("ids", "embeddings", "documents", "metadatas", "uris"))
        yield from map(_Row._make, zip(*columns, strict=True))


def _same_vector(vector: object, expected: bytes, dimension: int, space: Space) -> bool | None:
    """Return whether the vector has the expected fingerprint. None: a valid cosine vector, which cannot be proven."""
    found = np.asarray(vector, dtype="<f4")
    if found.shape != (dimension,) or not np.isfinite(found).all():
        return False
    if vector_fingerprint(found.tobytes()) == expected:
        return True
    return None if space == "cosine" else False
