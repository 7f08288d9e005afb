"""The expected content of a snapshot, computed from the deltas, and its real content, read with plain ChromaDB."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import chromadb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uuid_utils
from chromadb.api import ClientAPI
from chromadb.api.client import Client
from chromadb.config import Settings as ChromaSettings


@dataclass(frozen=True)
class Row:
    """One line of a delta; `embedding` None is a delete."""

    id: str
    embedding: tuple[float, ...] | None = None
    document: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Delta:
    """A delta, written without this project's code."""

    collection: str
    rows: tuple[Row, ...]
    name: str = field(default_factory=lambda: str(uuid_utils.uuid7()))
    suffix: str = ".parquet"
    header: Mapping[str, Any] | None = None

    @property
    def drops(self) -> bool:
        """True if it drops its collection."""
        return bool(self.header and self.header.get("drop"))

    @property
    def key(self) -> str:
        return f"delta/{self.collection}/{self.name}{self.suffix}"

    def body(self) -> bytes:
        return self._parquet() if self.suffix == ".parquet" else self._json_lines()

    def _parquet(self) -> bytes:
        table = pa.table(
            {
                "id": pa.array([row.id for row in self.rows], pa.string()),
                "op": pa.array(["delete" if row.embedding is None else "upsert" for row in self.rows], pa.string()),
                "embedding": pa.array([row.embedding for row in self.rows], pa.list_(pa.float32())),
                "document": pa.array([row.document for row in self.rows], pa.string()),
                "metadata": pa.array([row.metadata and json.dumps(row.metadata) for row in self.rows], pa.string()),
            }
        )
        if self.header is not None:
            table = table.replace_schema_metadata({"chromadb_compaction": json.dumps(self.header)})
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        return buffer.getvalue()

    def _json_lines(self) -> bytes:
        lines = [] if self.header is None else [json.dumps({"chromadb_compaction": self.header})]
        for row in self.rows:
            line: dict[str, Any] = {"id": row.id, "op": "delete" if row.embedding is None else "upsert"}
            line |= {"embedding": row.embedding, "document": row.document}
            line["metadata"] = row.metadata
            lines.append(json.dumps(line))
        return gzip.compress("\n".join(lines).encode(), mtime=0)


Record = tuple[tuple[float, ...], str | None, dict[str, Any] | None]


def expected(deltas: Iterable[Delta]) -> dict[str, dict[str, Record]]:
    """Return collection -> id -> record. Per id the row with the greatest (UUIDv7, row number) wins.

    Rows from before a drop do not count.
    """
    deltas = list(deltas)
    rows = [
        (UUID(delta.name).bytes, number, delta.collection, row)
        for delta in since_drops(deltas)
        for number, row in enumerate(delta.rows)
    ]
    content: dict[str, dict[str, Record]] = {delta.collection: {} for delta in deltas}
    for _, _, collection, row in sorted(rows, key=lambda entry: entry[:2]):
        if row.embedding is None:
            content[collection].pop(row.id, None)
        else:
            vector = tuple(np.asarray(row.embedding, np.float32).tolist())
            content[collection][row.id] = (vector, row.document, dict(row.metadata) if row.metadata else None)
    return content


def since_drops(deltas: Iterable[Delta]) -> list[Delta]:
    """Return the deltas that are newer than the newest drop of their collection."""
    listed = list(deltas)
    dropped: dict[str, str] = {}
    for delta in listed:
        if delta.drops:
            dropped[delta.collection] = max(delta.name, dropped.get(delta.collection, ""))
    return [delta for delta in listed if delta.name > dropped.get(delta.collection, "")]


def pull(s3: Any, bucket: str, target: Path) -> dict[str, Path]:
    """Download the published snapshot with boto3 and json only. Return collection -> ChromaDB directory."""
    pointer = json.loads(s3.get_object(Bucket=bucket, Key="snapshot/CURRENT")["Body"].read())
    manifest_key = f"snapshot/{pointer['snapshot_id']}/manifest.json"
    manifest = json.loads(s3.get_object(Bucket=bucket, Key=manifest_key)["Body"].read())
    directories = {}
    for collection, entry in manifest["collections"].items():
        directories[collection] = target / pointer["snapshot_id"] / collection
        key = f"snapshot/{entry['snapshot_id']}/{collection}/collection.json"
        described = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        for path, file in described["files"].items():
            local = directories[collection] / path
            local.parent.mkdir(parents=True, exist_ok=True)
            body = s3.get_object(Bucket=bucket, Key=file["key"])["Body"].read()
            start = file.get("offset", 0)  # of a file in a pack
            local.write_bytes(body[start : start + file["bytes"]])
    return directories


@contextmanager
def plain_client(directory: Path) -> Iterator[ClientAPI]:
    """Open a downloaded directory without this project's code."""
    client = chromadb.PersistentClient(path=str(directory), settings=ChromaSettings(anonymized_telemetry=False))
    with closing(cast("Client", client)):  # the declared type lacks close()
        yield client


def content_of(directory: Path, collection: str) -> dict[str, Record]:
    """Return every record of a downloaded directory, read with plain ChromaDB."""
    with plain_client(directory) as client:
        got = client.get_collection(collection).get(include=["embeddings", "documents", "metadatas"])
    assert got["embeddings"] is not None
    assert got["documents"] is not None
    assert got["metadatas"] is not None
    return {
        id_: (tuple(np.asarray(vector, np.float32).tolist()), document, dict(metadata) if metadata else None)
        for id_, vector, document, metadata in zip(
            got["ids"], got["embeddings"], got["documents"], got["metadatas"], strict=True
        )
    }


def published(s3: Any, bucket: str, target: Path) -> dict[str, dict[str, Record]]:
    """Return the published snapshot in the shape of `expected`."""
    return {name: content_of(directory, name) for name, directory in pull(s3, bucket, target).items()}
