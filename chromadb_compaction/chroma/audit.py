"""Reading a whole published collection back and holding it against its ledger."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction.chroma.client import Collection, open_collection
from chromadb_compaction.chroma.loader import batches
from chromadb_compaction.chroma.verification import READ_ROWS, READ_VALUES
from chromadb_compaction.deltas.records import check_metadata
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.manifest import Space
from chromadb_compaction.rows.fingerprints import fingerprint
from chromadb_compaction.rows.ledger import identities

FLOAT_STEPS = 2
"""How many units in the last place ChromaDB may read a metadata float off: measured, as FLOAT_TOLERANCE says."""

MOST_GUESSES = 5**5
"""Five floats a record: beyond, the neighbours of all of them are too many to try."""

SHOWN = 10


class Audit(NamedTuple):
    """What reading the records back showed. `problems` holds the first few of each kind.

    `unproven_vectors` counts those of cosine collections, which ChromaDB normalises, so that no fingerprint fits
    them: they were checked to be of the right length and finite. `unproven_texts` counts records with so many floats
    in their metadata, read back inexactly, that the fingerprint could not be found again.
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


def audit(directory: Path, name: str, ledger: pa.Table, *, dimension: int, space: Space) -> Audit:
    """Compare every record of the collection in `directory`, which is written to, with the ledger's live rows."""
    live = ledger.filter(pc.invert(ledger["deleted"]))
    expected = dict(identities(live))
    with open_collection(directory, name) as collection:
        ids: list[str] = collection.get(include=[])["ids"]
        problems = _compare_ids(name, ids, expected, counted=collection.count())
        vectors = texts = 0
        for row in _rows(collection, sorted(expected.keys() & set(ids)), dimension):
            same_vector = _same_vector(row.vector, expected[row.row_id][:16], dimension, space)
            same_texts = _same_texts(row, expected[row.row_id][16:])
            vectors += same_vector is None
            texts += same_texts is None
            if same_vector is False:
                problems.append(f"{name}: id {row.row_id!r} has another vector than was merged")
            if same_texts is False:
                problems.append(f"{name}: id {row.row_id!r} has another document or metadata than was merged")
    return Audit(len(expected), vectors, texts, tuple(problems[:SHOWN]))


def _compare_ids(name: str, ids: list[str], expected: Mapping[str, bytes], *, counted: int) -> list[str]:
    problems = []
    if not counted == len(ids) == len(expected):
        problems.append(f"{name}: ChromaDB counts {counted} records, the ledger {len(expected)} live rows")
    missing, strange = sorted(expected.keys() - set(ids)), sorted(set(ids) - expected.keys())
    problems += [f"{name}: id {each!r} is missing" for each in missing[:SHOWN]]
    return problems + [f"{name}: id {each!r} is there, but not in the ledger" for each in strange[:SHOWN]]


def _rows(collection: Collection, ids: list[str], dimension: int) -> Iterator[_Row]:
    for some in batches(ids, min(READ_ROWS, max(1, READ_VALUES // dimension))):
        found: Any = collection.get(ids=list(some), include=["embeddings", "documents", "metadatas"])
        columns = (found["ids"], found["embeddings"], found["documents"], found["metadatas"])
        yield from map(_Row._make, zip(*columns, strict=True))


def _same_vector(vector: object, wanted: bytes, dimension: int, space: Space) -> bool | None:
    """Say whether the vector has the fingerprint; None: a cosine collection's, and nothing is wrong with it."""
    found = np.asarray(vector, dtype="<f4")
    if found.shape != (dimension,) or not np.isfinite(found).all():
        return False
    if fingerprint(found.tobytes(), None, None)[:16] == wanted:
        return True
    return None if space == "cosine" else False


def _same_texts(row: _Row, wanted: bytes) -> bool | None:
    """Say whether document and metadata have the fingerprint; None: too many floats in the metadata to tell."""
    try:
        canonical = check_metadata(row.metadata)
    except CorruptDeltaError:
        return False
    if _texts(row.document, canonical) == wanted:
        return True
    if canonical is None:
        return False
    metadata = orjson.loads(canonical)
    places = list(_floats(metadata))
    if (2 * FLOAT_STEPS + 1) ** len(places) > MOST_GUESSES:
        return None
    for guess in itertools.product(*(_neighbours(holder[key]) for holder, key in places)):
        for (holder, key), value in zip(places, guess, strict=True):
            holder[key] = value
        if _texts(row.document, check_metadata(metadata)) == wanted:
            return True
    return False


def _texts(document: str | None, metadata: str | None) -> bytes:
    return fingerprint(b"", document, metadata)[16:]


def _floats(holder: dict[str, Any] | list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield every place that holds a float, as its holder and the key or index there."""
    for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
        if isinstance(value, float):
            yield holder, key
        elif isinstance(value, list):
            yield from _floats(value)


def _neighbours(value: float) -> list[float]:
    found = [value]
    for direction in (math.inf, -math.inf):
        near = value
        for _ in range(FLOAT_STEPS):
            near = math.nextafter(near, direction)
            found.append(near)
    return [each for each in found if math.isfinite(each)]
