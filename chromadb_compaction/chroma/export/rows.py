"""The live rows of a range of ids, read out of a closed directory and proven by its ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.chroma.client import CollectionSpec, open_collection
from chromadb_compaction.chroma.compatibility import incompatibility
from chromadb_compaction.chroma.export.proof import Texts, prove_texts
from chromadb_compaction.chroma.export.records import Record, read_records, vector_segment
from chromadb_compaction.chroma.index_files import StoredVectors, entries
from chromadb_compaction.chroma.loader import batches
from chromadb_compaction.chroma.verification import rows_per_read
from chromadb_compaction.configuration import Space
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.rows.fingerprints import VECTOR_BYTES, vector_fingerprint
from chromadb_compaction.rows.id_ranges import IdRange
from chromadb_compaction.rows.runs import LENGTH, moved_schema

BATCH_BYTES: Final = 4 * 1024 * 1024
"""The most text in memory at once, unless one record has more."""
_VALUE_BYTES: Final = 64

Vectors = NDArray[np.float32]


class _Batch(NamedTuple):
    """Consecutive records with their vectors, and the lengths of vectors that are stored scaled to length 1."""

    records: list[Record]
    vectors: Vectors
    lengths: Vectors | None

    @classmethod
    def received(cls, records: list[Record], vectors: Vectors, space: Space) -> Self:
        """Return the records with vectors as ChromaDB returns them."""
        if space != "cosine":
            return cls(records, vectors, None)
        lengths = np.linalg.norm(vectors, axis=1)
        scaled = np.divide(vectors, lengths[:, None], out=np.zeros_like(vectors), where=lengths[:, None] > 0)
        return cls(records, scaled, lengths)


def export_rows(directory: Path, spec: CollectionSpec, ids: IdRange, live: pa.Table) -> Iterator[pa.Table]:
    """Yield all rows of a range, sorted by id, in bounded memory. The columns are those of `moved_schema`.

    Document, metadata and URI of each row have the ledger's fingerprint, and so have vectors except those of cosine
    collections, which the index stores scaled to length 1. Those are yielded as stored, with their lengths.

    The files are read if they are those of a proven version of ChromaDB. Otherwise ChromaDB itself reads them, and
    cosine vectors are rounded once.

    Args:
        directory: A closed directory that holds the collection, and no other.
        spec: The collection.
        ids: The range.
        live: The live rows of the range in the ledger, sorted by id.

    Raises VerificationError that names the first id which is missing, unknown, or has other content than was merged.
    """
    proven = incompatibility(directory, spec) is None
    start = 0
    for batch in _read_files(directory, spec, ids) if proven else _read_api(directory, spec, ids):
        rows = live.slice(start, len(batch.records))
        start += len(batch.records)
        found, expected = [each.row_id for each in batch.records], cast("list[str]", rows["id"].to_pylist())
        if found != expected:
            raise _wrong_ids(spec.name, found, expected)
        yield _table(spec, rows, batch)
    if start < live.num_rows:
        raise VerificationError(f"{spec.name}: id {live['id'][start].as_py()!r} is missing")


def _read_files(directory: Path, spec: CollectionSpec, ids: IdRange) -> Iterator[_Batch]:
    segment = vector_segment(directory)
    stored = StoredVectors(segment, spec.dimension, spec.space) if entries(segment) else None
    for records in _batches(read_records(directory, ids), rows_per_read(spec.dimension, from_files=True)):
        names = [each.row_id for each in records]
        missing = names[0] if stored is None else stored.missing(names)
        if stored is None or missing is not None:
            raise VerificationError(f"{spec.name}: id {missing!r} is missing in the index")
        yield _Batch(records, *stored.read_stored(names))


def _read_api(directory: Path, spec: CollectionSpec, ids: IdRange) -> Iterator[_Batch]:
    with open_collection(directory, spec.name) as collection:
        held = pa.chunked_array([pa.array(collection.get(include=[])["ids"], pa.string())])
        wanted = sorted(cast("list[str]", held.filter(pa.array(ids.mask(held))).to_pylist()))
        for part in batches(wanted, rows_per_read(spec.dimension)):
            found: Any = collection.get(ids=list(part), include=["embeddings", "documents", "metadatas", "uris"])
            columns = (found[name] for name in ("ids", "documents", "metadatas", "uris", "embeddings"))
            rows = sorted(zip(*columns, strict=True), key=lambda row: row[0])
            records = [Record(row_id, Texts(*texts)) for row_id, *texts, _ in rows]
            yield _Batch.received(records, np.asarray([vector for *_, vector in rows], np.float32), spec.space)


def _batches(records: Iterable[Record], most: int) -> Iterator[list[Record]]:
    """Yield the records in order, at most `most` and BATCH_BYTES at once."""
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += _bytes(record.texts)
        if len(batch) == most or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _bytes(texts: Texts) -> int:
    """Return about the memory of a record. Characters stand for bytes."""
    values = texts.metadata.values() if texts.metadata else ()
    sizes = (
        _VALUE_BYTES * len(value) if isinstance(value, list) else len(value) for value in values if _is_long(value)
    )
    return len(texts.document or "") + len(texts.uri or "") + _VALUE_BYTES * (1 + len(values)) + sum(sizes)


def _is_long(value: object) -> bool:
    return isinstance(value, str | list)


def _table(spec: CollectionSpec, rows: pa.Table, batch: _Batch) -> pa.Table:
    """Return rows of the ledger with their content. Raises VerificationError if a row's content is not the ledger's."""
    metadatas: list[str | None] = []
    stated = cast("list[bytes]", rows["fingerprint"].to_pylist())
    for record, vector, expected in zip(batch.records, batch.vectors, stated, strict=True):
        if spec.space != "cosine" and vector_fingerprint(vector.tobytes()) != expected[:VECTOR_BYTES]:
            raise VerificationError(f"{spec.name}: id {record.row_id!r} has a different vector than was merged")
        proven = prove_texts(record.texts, expected[VECTOR_BYTES:])
        if proven.same is False:
            raise VerificationError(
                f"{spec.name}: id {record.row_id!r} has a different document, metadata or URI than was merged"
            )
        metadatas.append(proven.metadata)
    if batch.vectors.shape[1:] != (spec.dimension,) or not np.isfinite(batch.vectors).all():
        raise VerificationError(f"{spec.name}: ids from {batch.records[0].row_id!r} have vectors that are not valid")
    schema = moved_schema(spec.dimension, scaled=batch.lengths is not None)
    columns: dict[str, Any] = {name: rows[name] for name in rows.column_names}
    values = pa.array(np.ascontiguousarray(batch.vectors).ravel(), pa.float32())
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(values, spec.dimension)
    columns["document"] = pa.array([each.texts.document for each in batch.records], pa.string())
    columns["metadata"] = pa.array(metadatas, pa.string())
    columns["uri"] = pa.array([each.texts.uri for each in batch.records], pa.string())
    if batch.lengths is not None:
        columns[LENGTH.name] = pa.array(batch.lengths, pa.float32())
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _wrong_ids(name: str, found: list[str], expected: list[str]) -> VerificationError:
    """Return the error about the first id that differs. Both lists are sorted."""
    at = next((at for at, pair in enumerate(zip(found, expected, strict=False)) if len(set(pair)) > 1), len(expected))
    if at < len(expected) and expected[at] < found[at]:
        return VerificationError(f"{name}: id {expected[at]!r} is missing")
    return VerificationError(f"{name}: id {found[at]!r} is in the collection but not in the ledger")
