"""Verify from the files that a folded directory holds what its ledger says.

ChromaDB takes twice as long to return texts as SQLite to read them, and returns vectors as Python floats. So where the
format of the files is known, `verify` reads them itself, as ChromaDB does, and asks ChromaDB for a sample.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.chroma.client import CollectionSpec, open_collection
from chromadb_compaction.chroma.export.proof import Texts
from chromadb_compaction.chroma.export.records import StoredTexts
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
"""The records of each read that ChromaDB returns too, spread evenly."""

PARTS_BETWEEN_TRIMS = 16
"""Freed memory is released after the first part, and then after this many: releasing is slow."""

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

    With `index`, the directory of the index's files, every row is read from the files: its vector by the id's label,
    and its texts from the tables. The full-text table must hold the same document. ChromaDB returns a sample of the
    rows. That proves the bytes that are published, and that ChromaDB reads them so.

    Moved rows are compared as those added are: with the rows that were exported, which the ledger has proven
    (chroma.export). Their cosine vectors have no tolerance then: the files must hold the bits of the old index.
    """
    from_files = index is not None and plan.written_rows > 0
    parts: Iterable[pa.Table] = plan.written(rows_per_read(spec.dimension, from_files=from_files), RECORD)
    if index is not None and from_files:
        parts = _check_files(directory, index, spec, parts, progress=progress)
    with open_collection(directory, spec.name) as collection:
        records = collection.count()
        if records != plan.counts.records:
            raise VerificationError(
                f"{spec.name}: ChromaDB counts {records} records, the ledger {plan.counts.records} live rows"
            )
        for number, rows in enumerate(parts):
            progress()
            _check_texts(collection, rows)
            _check_vectors(collection, rows, spec.space)
            _trim(number)
        for ids in batches(plan.deletes, READ_ROWS):
            progress()
            left = collection.get(ids=list(ids), include=[])["ids"]
            if left:
                raise VerificationError(f"{spec.name}: id {left[0]!r} was deleted but still exists")


def _check_files(
    directory: Path, index: Path, spec: CollectionSpec, parts: Iterable[pa.Table], *, progress: Progress
) -> list[pa.Table]:
    """Compare all rows with the files of the closed directory, and return a sample of them."""
    samples: list[pa.Table] = []
    vectors = StoredVectors(index, spec.dimension, spec.space)
    with closing(StoredTexts(directory)) as texts:
        for number, rows in enumerate(parts):
            progress()
            _check_stored_texts(spec.name, texts, rows)
            _check_stored_vectors(spec.name, vectors, rows, spec.space)
            samples.append(_sample(rows))
            _trim(number)
    return samples


def _trim(number: int) -> None:
    if number % PARTS_BETWEEN_TRIMS == 0:
        trim_memory()


def _check_texts(collection: Collection, rows: pa.Table) -> None:
    """Compare the texts that ChromaDB returns."""
    ids = ids_of(rows)
    found = collection.get(ids=ids, include=["documents", "metadatas", "uris"])
    documents, metadatas, uris = (found[name] for name in ("documents", "metadatas", "uris"))
    if documents is None or metadatas is None or uris is None:
        raise VerificationError(f"{collection.name}: ChromaDB returns no documents, metadata or URIs")
    columns: list[Any] = [documents, metadatas, uris]
    texts = map(Texts._make, zip(*columns, strict=True))
    _check_same_texts(collection.name, dict(zip(found["ids"], texts, strict=True)), rows)


def _check_stored_texts(name: str, texts: StoredTexts, rows: pa.Table) -> None:
    """Compare the texts that the tables hold."""
    ids = ids_of(rows)
    _check_same_texts(name, texts.read(ids), rows)
    unsearchable = texts.unsearchable(ids)
    if unsearchable is not None:
        raise VerificationError(f"{name}: id {unsearchable!r} has another document in the full-text table")


def _check_same_texts(name: str, found: Mapping[str, Texts], rows: pa.Table) -> None:
    written = (texts_of(rows, column) for column in ("document", "metadata", "uri"))
    for row_id, document, metadata, uri in zip(ids_of(rows), *written, strict=True):
        texts = found.get(row_id)
        if texts is None:
            raise VerificationError(f"{name}: id {row_id!r} is missing")
        if texts.document != document:
            raise _difference(name, row_id, "document")
        if not same_metadata(texts.metadata, metadata):
            raise _difference(name, row_id, "metadata")
        if texts.uri != uri:
            raise _difference(name, row_id, "URI")


def _check_vectors(collection: Collection, rows: pa.Table, space: Space) -> None:
    """Compare the vectors that ChromaDB returns."""
    ids = ids_of(rows)
    found = collection.get(ids=ids, include=["embeddings"])
    order = _positions(collection, found["ids"], ids)
    if found["embeddings"] is None:
        raise VerificationError(f"{collection.name}: ChromaDB returns no embeddings")
    stored = np.asarray(found["embeddings"], dtype=np.float32)[order]
    _check_equal(collection.name, ids, stored, vectors_of(rows), space)


def _check_stored_vectors(name: str, vectors: StoredVectors, rows: pa.Table, space: Space) -> None:
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
