"""Files of records, read in pieces that fit in memory for any size of file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromadb_compaction.cli.sources.records import Records, RecordSource
from chromadb_compaction.deltas import strict_json
from chromadb_compaction.deltas.records import check_names, check_op
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 1000
"""Records in one piece."""


class RecordFiles(RecordSource):
    """Files that are put into one collection, one after the other.

    Raises InvalidRequestError if a file does not exist or has an unknown suffix.
    """

    def __init__(self, paths: Sequence[Path], collection: str) -> None:
        self._files = [(path, _reader(path)) for path in paths]
        self.name = ", ".join(path.name for path in paths)
        self.location = ", ".join(str(path.resolve()) for path in paths)
        self.collection = collection
        self.size = sum(path.stat().st_size for path in paths)

    def read(self) -> Iterator[Records]:
        """Yield the records of all files."""
        for path, read in self._files:
            yield from read(path)


def _reader(path: Path) -> Callable[[Path], Iterator[Records]]:
    if not path.is_file():
        raise InvalidRequestError(f"there is no file {path}")
    if path.name.endswith(".parquet"):
        return _read_parquet
    if path.name.endswith((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")):
        return _read_json_lines
    raise InvalidRequestError(f"{path} is neither .jsonl, .jsonl.gz, .parquet nor a ChromaDB directory or URL")


def _read_json_lines(path: Path) -> Iterator[Records]:
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else nullcontext(raw) as text:
        lines: Iterable[bytes] = text
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        before = 0
        try:
            while chunk := list(islice(numbered, CHUNK)):
                records = [_parse(line, f"{path}, line {number}") for number, line in chunk]
                yield _columns(records, size=raw.tell() - before)
                before = raw.tell()
        except (EOFError, OSError, zlib.error) as error:
            raise InvalidRequestError(f"{path} is damaged or cut off: {error}") from error


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = strict_json.parse(line)
    except ValueError as error:
        raise InvalidRequestError(f"{where}: the line {error}") from error
    if not isinstance(record, dict):
        raise InvalidRequestError(f"{where}: the line is not a JSON object")
    _check_names(record, where)
    return record


def _read_parquet(path: Path) -> Iterator[Records]:
    """Yield the records of a file with the columns of a delta. Embeddings without nulls stay numpy arrays."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_names(file.schema_arrow.names, str(path))
            bytes_per_row = path.stat().st_size / max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(CHUNK):
                yield _batch(batch, size=int(bytes_per_row * len(batch)))
    except (pa.ArrowException, OSError) as error:
        raise InvalidRequestError(f"{path} cannot be read as Parquet: {error}") from error


def _batch(batch: pa.RecordBatch, *, size: int) -> Records:
    names = [name for name in batch.schema.names if name != "embedding"]
    records = _columns(batch.select(names).to_pylist(), size=size)
    if "embedding" not in batch.schema.names:
        return records
    column = batch.column("embedding")
    vectors = column.to_pylist() if column.null_count else column.to_numpy(zero_copy_only=False)
    return records._replace(embeddings=list(vectors))


def _columns(records: Sequence[dict[str, Any]], *, size: int) -> Records:
    return Records(
        ids=[record.get("id", "") for record in records],
        deleted=[_is_delete(record) for record in records],
        embeddings=[record.get("embedding") for record in records],
        documents=[record.get("document") for record in records],
        metadatas=[_metadata(record) for record in records],
        size=size,
    )


def _is_delete(record: dict[str, Any]) -> bool:
    try:
        return check_op(record.get("op"))
    except CorruptDeltaError as error:
        raise InvalidRequestError(f"the record {record.get('id')!r}: {error}") from error


def _metadata(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the metadata. As in a Parquet delta, it may be a string that holds JSON."""
    value = record.get("metadata")
    if not isinstance(value, str):
        return value
    try:
        parsed = strict_json.parse(value.encode())
    except ValueError as error:
        raise InvalidRequestError(f"the record {record.get('id')!r}: its metadata {error}") from error
    if parsed is not None and not isinstance(parsed, dict):
        raise InvalidRequestError(f"the record {record.get('id')!r}: its metadata is not a JSON object")
    return parsed


def _check_names(names: Collection[str], where: str) -> None:
    try:
        check_names(names, "name")
    except CorruptDeltaError as error:
        raise InvalidRequestError(f"{where}: {error.message}", next_step=error.next_step) from error
