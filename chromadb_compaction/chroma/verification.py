"""Verify from the files that a folded directory holds what its ledger says.

ChromaDB returns vectors as Python floats, which takes half of a verification. So where the format of the index's files
is known, `verify` reads the vectors from them, as ChromaDB does, and asks ChromaDB itself for a sample.
"""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.chroma.client import CollectionSpec, open_collection
from chromadb_compaction.chroma.index_files import StoredVectors
from chromadb_compaction.chroma.loader import (
    RECORD,
    Progress,
    batches,
    ids_of,
    stored_vectors_of,
    texts_of,
    vectors_of,
)
from chromadb_compaction.configuration import Space
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.rows.ledger import FoldPlan
from chromadb_compaction.rows.native_memory import trim_memory

if TYPE_CHECKING:
    from chromadb_compaction.chroma.client import Collection

READ_ROWS = 5000
READ_VALUES = 125_000
"""Vector components read back at once: ChromaDB returns Python floats, 32 bytes each."""
READ_FROM_FILES = 2_000_000
"""Vector components read at once from the index's files, 4 bytes each."""
SAMPLED_ROWS = 20
"""The records of each read whose vectors ChromaDB returns too, spread evenly."""

PARTS_BETWEEN_TRIMS = 16
"""Freed memory is released after the first part, which loads the index, and then after this many: releasing is slow."""

COSINE_TOLERANCE = 1e-5
"""ChromaDB normalises cosine vectors and scales them back. Measured: a component moves by 2e-7 of the largest one."""

FLOAT_TOLERANCE = 1e-15
"""ChromaDB's queue holds metadata as JSON and reads floats inexactly. Measured: by up to 2 units in the last place.

Those units are a larger share of a subnormal number, so differences below the smallest normal number pass too."""

COSINE_FLOOR = 1e-18
"""ChromaDB stores a shorter cosine vector as zero, because its square underflows float32."""


def rows_per_read(dimension: int, *, from_files: bool = False) -> int:
    """Return how many records of that dimension are read back at once."""
    return min(READ_ROWS, max(1, (READ_FROM_FILES if from_files else READ_VALUES) // dimension))


def verify(
    directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress, index: Path | None = None
) -> None:
    """Open the closed directory and compare it with the plan. Raises VerificationError that names the id.

    ChromaDB's count must equal the ledger's live rows, and it must find no deleted id. It must return the document, the
    metadata and the URI of every row added or replaced, and its vector, exactly, within the tolerances above, which are
    ChromaDB's own inaccuracies.

    With `index`, the directory of the index's files, every vector is read from them by the id's label, and ChromaDB
    returns a sample. That proves the bytes that are published, and that ChromaDB reads them so.

    Moved rows are compared as those added are: with the rows that were exported, which the ledger has proven
    (chroma.export). Their cosine vectors have no tolerance then: the files must hold the bits of the old index.
    """
    vectors = StoredVectors(index, spec.dimension, spec.space) if index and plan.written_rows else None
    with (
        open_collection(directory, spec.name) as collection,
        ThreadPoolExecutor(1, thread_name_prefix="verify") as texts,
    ):
        records = collection.count()
        if records != plan.counts.records:
            raise VerificationError(
                f"{spec.name}: ChromaDB counts {records} records, the ledger {plan.counts.records} live rows"
            )
        at_once = rows_per_read(spec.dimension, from_files=vectors is not None)
        for number, rows in enumerate(plan.written(at_once, RECORD)):
            progress()
            # ChromaDB lets other threads run while it reads texts, which takes as long as everything else.
            checked = texts.submit(_check_texts, collection, rows)
            if vectors is None:
                _check_vectors(collection, rows, spec.space)
            else:
                _check_files(collection.name, vectors, rows, spec.space)
                _check_vectors(collection, _sample(rows), spec.space)
            checked.result()
            if number % PARTS_BETWEEN_TRIMS == 0:
                trim_memory()
        for ids in batches(plan.deletes, READ_ROWS):
            progress()
            left = collection.get(ids=list(ids), include=[])["ids"]
            if left:
                raise VerificationError(f"{spec.name}: id {left[0]!r} was deleted but still exists")


def _check_texts(collection: Collection, rows: pa.Table) -> None:
    ids = ids_of(rows)
    found = collection.get(ids=ids, include=["documents", "metadatas", "uris"])
    order = _positions(collection, found["ids"], ids)
    documents, metadatas, uris = (found[name] for name in ("documents", "metadatas", "uris"))
    if documents is None or metadatas is None or uris is None:
        raise VerificationError(f"{collection.name}: ChromaDB returns no documents, metadata or URIs")
    texts = (texts_of(rows, name) for name in ("document", "metadata", "uri"))
    for row_id, document, metadata, uri, at in zip(ids, *texts, order, strict=True):
        if documents[at] != document:
            raise _difference(collection.name, row_id, "document")
        if not same_metadata(metadatas[at], metadata):
            raise _difference(collection.name, row_id, "metadata")
        if uris[at] != uri:
            raise _difference(collection.name, row_id, "URI")


def _check_vectors(collection: Collection, rows: pa.Table, space: Space) -> None:
    """Compare the vectors that ChromaDB returns."""
    ids = ids_of(rows)
    found = collection.get(ids=ids, include=["embeddings"])
    order = _positions(collection, found["ids"], ids)
    if found["embeddings"] is None:
        raise VerificationError(f"{collection.name}: ChromaDB returns no embeddings")
    stored = np.asarray(found["embeddings"], dtype=np.float32)[order]
    _check_equal(collection.name, ids, stored, vectors_of(rows), space)


def _check_files(name: str, vectors: StoredVectors, rows: pa.Table, space: Space) -> None:
    """Compare the vectors that the index's files hold."""
    ids = ids_of(rows)
    missing = vectors.missing(ids)
    if missing is not None:
        raise VerificationError(f"{name}: id {missing!r} is missing in the index")
    stored, lengths = stored_vectors_of(rows)
    if lengths is None:
        _check_equal(name, ids, vectors.read(ids), stored, space)
        return
    found, scale = vectors.read_stored(ids)
    wrong = differing_bits(found, stored)
    if scale is None or (wrong := wrong | (scale.view(np.uint32) != lengths.view(np.uint32))).any():
        raise _difference(name, ids[int(wrong.argmax())], "embedding")


def _check_equal(
    name: str, ids: list[str], found: NDArray[np.float32], written: NDArray[np.float32], space: Space
) -> None:
    wrong = differing(found, written, space)
    if wrong.any():
        raise _difference(name, ids[int(wrong.argmax())], "embedding")


def _sample(rows: pa.Table) -> pa.Table:
    return rows.take(np.linspace(0, rows.num_rows - 1, min(SAMPLED_ROWS, rows.num_rows), dtype=np.int64))


def _positions(collection: Collection, found: list[str], ids: list[str]) -> list[int]:
    """Return the position of each id in `found`. Raises VerificationError if one is missing."""
    position = {row_id: at for at, row_id in enumerate(found)}
    order = [position.get(row_id, -1) for row_id in ids]
    if -1 in order:
        raise VerificationError(f"{collection.name}: id {ids[order.index(-1)]!r} is missing")
    return order


def differing(found: NDArray[np.float32], written: NDArray[np.float32], space: Space) -> NDArray[np.bool_]:
    """Return, per row, whether the vector read back differs from the one written. Only cosine has a tolerance."""
    if space != "cosine":
        return differing_bits(found, written)
    allowed = COSINE_TOLERANCE * np.abs(written).max(axis=1, keepdims=True) + COSINE_FLOOR
    # A NaN must count as a difference, and "NaN > allowed" is false.
    return _any_in_row(~(np.abs(found - written) <= allowed))


def differing_bits(found: NDArray[np.float32], written: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return, per row, whether the vectors differ in any bit."""
    return _any_in_row(found.view(np.uint32) != written.view(np.uint32))


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


def _difference(name: str, row_id: str, what: str) -> VerificationError:
    return VerificationError(f"{name}: id {row_id!r} reads back with a different {what}")
