from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chromadb_compaction.cli.sources.files import CHUNK, RecordFiles
from chromadb_compaction.cli.sources.records import Records
from chromadb_compaction.errors import InvalidRequestError


def records_of(*paths: Path) -> list[Records]:
    return list(RecordFiles(paths, "docs").read())


def json_lines(path: Path, *records: dict[str, Any]) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text) if path.name.endswith(".gz") else text)
    return path


@pytest.mark.parametrize("name", ["records.jsonl", "records.jsonl.gz"])
def test_json_lines_are_read_with_deletes(tmp_path: Path, name: str) -> None:
    path = json_lines(
        tmp_path / name,
        {"id": "a", "embedding": [1, 0], "document": "text", "metadata": {"n": 1}},
        {"id": "b", "op": "delete"},
    )

    (records,) = records_of(path)

    assert list(records.ids) == ["a", "b"]
    assert list(records.deleted) == [False, True]
    assert records.embeddings[0] == [1, 0]
    assert list(records.metadatas) == [{"n": 1}, None]


def test_a_long_file_is_read_in_pieces_whose_sizes_add_up_to_its_own(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "records.jsonl", *({"id": str(n), "embedding": [1]} for n in range(2 * CHUNK + 1)))

    pieces = records_of(path)

    assert [len(piece.ids) for piece in pieces] == [CHUNK, CHUNK, 1]
    assert sum(piece.size for piece in pieces) == path.stat().st_size


def test_parquet_is_read_with_nulls_and_parsed_metadata(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    embeddings = pa.array([[1, 2], None], pa.list_(pa.float32()))
    columns = {"id": ["a", "b"], "embedding": embeddings, "document": ["x", "y"], "metadata": ['{"n": 1}', None]}
    pq.write_table(pa.table(columns), path)

    (records,) = records_of(path)

    assert list(records.ids) == ["a", "b"]
    assert list(records.embeddings[0]) == [1, 2]
    assert records.embeddings[1] is None
    assert list(records.metadatas) == [{"n": 1}, None]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "a", "embeding": [1]}', "line 1: the name 'embeding' is unknown"),
        ("[1, 2]", "line 1: the line is not a JSON object"),
        ('{"id": "a"', "line 1: "),
        ('{"id": "a", "op": "drop"}', "the record 'a': op is 'drop'; it must be 'upsert' or 'delete'"),
        ('{"id": "a", "embedding": [1], "metadata": "[1]"}', "'a': its metadata is not a JSON object"),
    ],
)
def test_the_error_about_a_line_names_it(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(line + "\n", encoding="utf-8")

    with pytest.raises(InvalidRequestError) as caught:
        records_of(path)

    assert reason in str(caught.value)


def test_a_file_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "records.jsonl.gz", {"id": "a", "embedding": [1]})
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(InvalidRequestError, match="is damaged or cut off"):
        records_of(path)


def test_a_file_that_is_not_parquet_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    path.write_bytes(b"not parquet")

    with pytest.raises(InvalidRequestError, match="cannot be read as Parquet"):
        records_of(path)


def test_an_unknown_suffix_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.touch()

    with pytest.raises(InvalidRequestError, match="is neither"):
        RecordFiles([path], "docs")
