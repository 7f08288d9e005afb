"""A file is accepted or refused alike, when it is put and when it is itself a delta."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from chromadb_compaction.cli.sources.files import RecordFiles, files_of
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.deltas.formats import read_delta
from chromadb_compaction.errors import CompactionError, CorruptDeltaError
from chromadb_compaction.settings import MEBIBYTE
from tests.builders import NOW, a_delta, parquet
from tests.fakes.objects import InMemoryObjectStore

VECTORS = [[1.0, 2.0], [3.0, 4.0]]


def a_file(**columns: Any) -> bytes:
    valid: dict[str, Any] = {"id": ["a", "b"], "embedding": pa.array(VECTORS, pa.list_(pa.float32()))}
    return parquet(pa.table({name: column for name, column in (valid | columns).items() if column is not None}))


def encoded(encoding: str, version: Any) -> bytes:
    table = pa.table({"id": ["a", "b"], "embedding": VECTORS, "document": ["one", None]})
    encodings = dict.fromkeys(("id", "document"), encoding)
    return parquet(table, use_dictionary=False, column_encoding=encodings, data_page_version=version)


ACCEPTED = {
    "json": a_file(metadata=pa.array(['{"n":1}', None], pa.json_())),
    "tensor": a_file(embedding=pa.FixedShapeTensorArray.from_numpy_ndarray(np.array(VECTORS, np.float32))),
    "list view": a_file(embedding=pa.array(VECTORS, pa.list_view(pa.float32()))),
    "large list view": a_file(embedding=pa.array(VECTORS, pa.large_list_view(pa.float64()))),
    "uris": a_file(uri=["s3://a", None]),
    "half floats": a_file(embedding=pa.array(np.array(VECTORS, np.float16).tolist(), pa.list_(pa.float16()))),
    "index of pandas": a_file(__index_level_0__=[7, 8]),
    "two indices of pandas": a_file(__index_level_0__=[7, 8], __index_level_1__=["x", "y"]),
    "delta lengths, version 1": encoded("DELTA_LENGTH_BYTE_ARRAY", "1.0"),
    "delta lengths, version 2": encoded("DELTA_LENGTH_BYTE_ARRAY", "2.0"),
    "delta strings, version 1": encoded("DELTA_BYTE_ARRAY", "1.0"),
    "delta strings, version 2": encoded("DELTA_BYTE_ARRAY", "2.0"),
}
REFUSED = {
    "struct": (a_file(metadata=pa.array([{"n": 1}, None])), "a string that holds a JSON object"),
    "bytes": (a_file(id=pa.array([b"a", b"b"])), "write it as a string"),
    "numbers": (a_file(id=[1, 2]), "write it as a string"),
    "no id": (a_file(id=None), "the column 'id' is missing"),
    "lists of lists": (a_file(embedding=[[[1.0]], [[2.0]]]), "a flat list of numbers"),
    "unknown column": (a_file(__index_level_x__=[1, 2]), "use only id"),
    "delete with a document": (a_file(op=["upsert", "delete"], document=["x", "y"]), "a delete carries nothing"),
}


def put(path: Path) -> list[str]:
    """Put a file, and return the ids."""
    objects = InMemoryObjectStore()
    with DeltaWriter(bucket="a-bucket", objects=objects) as writer:
        for records in RecordFiles([path], "docs").read():
            writer.upsert(
                "docs", records.ids, records.embeddings, records.documents, records.metadatas, uris=records.uris
            )
    (body,) = objects.objects.values()
    return ids_of(body.body)


def ids_of(body: bytes, suffix: str = ".parquet") -> list[str]:
    """Return the ids of a delta. It must have whole records."""
    key = a_delta().key.removesuffix(".parquet") + suffix
    table = read_delta(key, body, now=NOW, max_bytes=MEBIBYTE).table
    assert table["embedding"].null_count == 0
    return [str(row_id) for row_id in table["id"].to_pylist()]


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
def test_a_file_is_accepted_by_both_ways(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "records.parquet"
    path.write_bytes(body)

    assert put(path) == ids_of(body) == ["a", "b"]


@pytest.mark.parametrize(("body", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_file_is_refused_by_both_ways_with_the_remedy(tmp_path: Path, body: bytes, reason: str) -> None:
    path = tmp_path / "records.parquet"
    path.write_bytes(body)

    with pytest.raises(CompactionError, match=reason):
        put(path)
    with pytest.raises(CorruptDeltaError, match=reason):
        ids_of(body)


@pytest.mark.parametrize("name", ["records.jsonl", "records.txt", "records.jsonl.gz"])
def test_a_byte_order_mark_is_skipped_and_gzip_is_known_by_its_bytes(tmp_path: Path, name: str) -> None:
    body = gzip.compress(b'\xef\xbb\xbf{"id":"a","embedding":[1,2]}\n\n{"id":"b","embedding":[1,2]}')
    path = tmp_path / name
    path.write_bytes(body)

    assert put(path) == ids_of(body, ".jsonl.gz") == ["a", "b"]


def test_parquet_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "part-0"
    path.write_bytes(a_file())

    assert put(path) == ["a", "b"]


def test_a_folder_stands_for_its_files_of_records(tmp_path: Path) -> None:
    for name in ("part-1.parquet", "part-0.parquet", "_SUCCESS", ".part-0.parquet.crc", "_hidden.parquet", "notes.txt"):
        (tmp_path / name).touch()

    assert [file.name for file in files_of(tmp_path)] == ["part-0.parquet", "part-1.parquet"]
    assert files_of(tmp_path / "part-0.parquet") == []
    (tmp_path / "chroma.sqlite3").touch()
    assert files_of(tmp_path) == []
