"""Builders of runs that show only what matters: `a_run({"a": [1, 0]}, deletes={"b"}, delta=7)`."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chromadb_compaction.deltas.records import check_metadata
from chromadb_compaction.rows.fingerprints import DELETED, fingerprint
from chromadb_compaction.rows.ledger import Drop, FoldPlan, plan_fold
from chromadb_compaction.rows.run_rows import LEDGER_SCHEMA, Piece, RunRows
from chromadb_compaction.rows.runs import RunWriter, run_dimension, run_schema


def a_run(
    upserts: Mapping[str, Sequence[float]] | None = None,
    deletes: Collection[str] = (),
    *,
    documents: Mapping[str, str] | None = None,
    metadatas: Mapping[str, Mapping[str, Any]] | None = None,
    uris: Mapping[str, str] | None = None,
    delta: int = 1,
) -> pa.Table:
    """Return the run of one delta: its rows sorted by id and numbered in that order. `delta` replaces its UUIDv7."""
    live = upserts or {}
    rows = [
        _live_row(
            row_id, live[row_id], (documents or {}).get(row_id), (metadatas or {}).get(row_id), (uris or {}).get(row_id)
        )
        if row_id in live
        else {"id": row_id, "deleted": True, "fingerprint": DELETED}
        for row_id in sorted({*live, *deletes}, key=str.encode)
    ]
    dimension = len(next(iter(live.values()))) if live else None
    version = {"delta": delta.to_bytes(16, "big")}
    return pa.Table.from_pylist(
        [row | version | {"row": number} for number, row in enumerate(rows)], schema=run_schema(dimension)
    )


def encode_run(table: pa.Table) -> bytes:
    """Return a run as MergeBatch stores it."""
    sink = io.BytesIO()
    with RunWriter(sink, run_dimension(table)) as writer:
        writer.write(table)
    return sink.getvalue()


def decode_run(body: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(body), page_checksum_verification=True)


def planned(ledger: pa.Table | None, run: pa.Table, *, base: str | None = None, drop: Drop | None = None) -> FoldPlan:
    """Plan the fold of an in-memory run."""
    piece = Piece(run.num_rows, run.nbytes, lambda columns: run.select(list(columns)))
    at = np.arange(run.num_rows, dtype=np.int64)
    rows = RunRows([piece], run.select(LEDGER_SCHEMA.names), at, run_dimension(run))
    return plan_fold(ledger, rows, base=base, drop=drop)


def _live_row(
    row_id: str, vector: Sequence[float], document: str | None, metadata: Mapping[str, Any] | None, uri: str | None
) -> dict[str, Any]:
    stored = np.asarray(vector, dtype="<f4")
    text = check_metadata(metadata)
    return {
        "id": row_id,
        "deleted": False,
        "fingerprint": fingerprint(stored.tobytes(), document, text, uri),
        "embedding": stored,
        "document": document,
        "metadata": text,
        "uri": uri,
    }
