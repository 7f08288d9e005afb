"""Verify from the files that a folded directory holds what its ledger says."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.chroma.client import Collection, CollectionSpec, open_collection
from chromadb_compaction.chroma.loader import RECORD, Progress, batches, ids_of, texts_of, vectors_of
from chromadb_compaction.configuration import Space
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.rows.ledger import FoldPlan
from chromadb_compaction.rows.native_memory import trim_memory

READ_ROWS = 5000
READ_VALUES = 125_000
"""Vector components read back at once: ChromaDB returns Python floats, 32 bytes each."""

PARTS_BETWEEN_TRIMS = 16
"""Freed memory is released after the first part, which loads the index, and then after this many: releasing is slow."""

COSINE_TOLERANCE = 1e-5
"""ChromaDB normalises cosine vectors and scales them back. Measured: a component moves by 2e-7 of the largest one."""

FLOAT_TOLERANCE = 1e-15
"""ChromaDB's queue holds metadata as JSON and reads floats inexactly. Measured: by up to 2 units in the last place.

Those units are a larger share of a subnormal number, so differences below the smallest normal number pass too."""

COSINE_FLOOR = 1e-18
"""ChromaDB stores a shorter cosine vector as zero, because its square underflows float32."""


def rows_per_read(dimension: int) -> int:
    """Return how many records of that dimension are read back at once."""
    return min(READ_ROWS, max(1, READ_VALUES // dimension))


def verify(directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> None:
    """Open the closed directory and compare it with the plan. Raises VerificationError that names the id.

    The count must equal the ledger's live rows. Every row added or replaced must read back exactly, within the
    tolerances above, which are ChromaDB's own inaccuracies. No deleted id may be left.
    """
    with open_collection(directory, spec.name) as collection:
        records = collection.count()
        if records != plan.counts.records:
            raise VerificationError(
                f"{spec.name}: ChromaDB counts {records} records, the ledger {plan.counts.records} live rows"
            )
        for number, rows in enumerate(plan.written(rows_per_read(spec.dimension), RECORD)):
            progress()
            _check_rows(collection, rows, spec.space)
            if number % PARTS_BETWEEN_TRIMS == 0:
                trim_memory()
        for ids in batches(plan.deletes, READ_ROWS):
            progress()
            left = collection.get(ids=list(ids), include=[])["ids"]
            if left:
                raise VerificationError(f"{spec.name}: id {left[0]!r} was deleted but still exists")


def _check_rows(collection: Collection, rows: pa.Table, space: Space) -> None:
    ids = ids_of(rows)
    found = collection.get(ids=ids, include=["embeddings", "documents", "metadatas", "uris"])
    position = {row_id: at for at, row_id in enumerate(found["ids"])}
    order = [position.get(row_id, -1) for row_id in ids]
    documents, metadatas, embeddings, uris = (found[name] for name in ("documents", "metadatas", "embeddings", "uris"))
    if -1 in order or documents is None or metadatas is None or embeddings is None or uris is None:
        raise VerificationError(f"{collection.name}: id {ids[order.index(-1)]!r} is missing")
    wrong_vectors = differing(np.asarray(embeddings, dtype=np.float32)[order], vectors_of(rows), space)
    texts = (texts_of(rows, name) for name in ("document", "metadata", "uri"))
    expected = zip(ids, *texts, order, strict=True)
    for (row_id, document, metadata, uri, at), wrong_vector in zip(expected, wrong_vectors.tolist(), strict=True):
        if wrong_vector:
            raise _difference(collection, row_id, "embedding")
        if documents[at] != document:
            raise _difference(collection, row_id, "document")
        if not same_metadata(metadatas[at], metadata):
            raise _difference(collection, row_id, "metadata")
        if uris[at] != uri:
            raise _difference(collection, row_id, "URI")


def differing(found: NDArray[np.float32], written: NDArray[np.float32], space: Space) -> NDArray[np.bool_]:
    """Return, per row, whether the vector read back differs from the one written. Only cosine has a tolerance."""
    if space != "cosine":
        return _any_in_row(found.view(np.uint32) != written.view(np.uint32))
    allowed = COSINE_TOLERANCE * np.abs(written).max(axis=1, keepdims=True) + COSINE_FLOOR
    # A NaN must count as a difference, and "NaN > allowed" is false.
    return _any_in_row(~(np.abs(found - written) <= allowed))


def _any_in_row(wrong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(wrong.any(axis=1), dtype=np.bool_)


def same_metadata(found: object, written: str | None) -> bool:
    """Return whether metadata read back has the keys, types and values of `written`, which is canonical JSON.

    1, 1.0 and true differ, although they are equal in Python. Floats may differ by FLOAT_TOLERANCE.
    """
    if not found or written is None:
        return not found and written is None
    if orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode() == written:
        return True
    return _same_value(found, orjson.loads(written))


def _same_value(found: object, written: object) -> bool:
    if type(found) is not type(written):
        return False
    if isinstance(found, float) and isinstance(written, float):
        return math.isclose(found, written, rel_tol=FLOAT_TOLERANCE, abs_tol=sys.float_info.min)
    if isinstance(found, dict) and isinstance(written, dict):
        return found.keys() == written.keys() and all(_same_value(found[key], written[key]) for key in written)
    if isinstance(found, list) and isinstance(written, list):
        return len(found) == len(written) and all(map(_same_value, found, written))
    return found == written


def _difference(collection: Collection, row_id: str, what: str) -> VerificationError:
    return VerificationError(f"{collection.name}: id {row_id!r} reads back with a different {what}")
