"""Files of records, read in pieces that fit in memory for any size of file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from chromadb_compaction.cli.sources.records import Records, RecordSource
from chromadb_compaction.deltas import strict_json
from chromadb_compaction.deltas.records import check_delete, check_names, check_op
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 1000
"""Records in one piece."""

_SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_PARQUET_START, _GZIP_START = b"PAR1", b"\x1f\x8b"


class RecordFiles(RecordSource):
    """Files that are put into one collection, one after the other.

    Raises InvalidRequestError if a file does not exist or has an unknown suffix, or if their dimensions differ.
    """

    def __init__(self, paths: Sequence[Path], collection: str) -> None:
        self._files = [(path, _reader(path)) for path in paths]
        self.name = ", ".join(path.name for path in paths)
        self.location = ", ".join(str(path.resolve()) for path in paths)
        self.collection = collection
        self.size = sum(path.stat().st_size for path in paths)
        self.dimension = self._common_dimension()

    def read(self) -> Iterator[Records]:
        """Yield the records of all files."""
        for path, read in self._files:
            yield from read(path)

    def _common_dimension(self) -> int | None:
        known = [(path, found) for path, read in self._files if (found := _first_dimension(read(path)))]
        for path, found in known:
            first, dimension = known[0]
            if found != dimension:
                raise InvalidRequestError(
                    f"the embeddings of {path} have {found} dimensions, but those of {first} have {dimension}",
                    next_step="put each file into a collection of its own",
                )
        return known[0][1] if known else None


def _first_dimension(pieces: Iterator[Records]) -> int | None:
    """Return the length of the first embedding of the first piece. None if it has none, or cannot be read."""
    try:
        embeddings: Any = next((piece.embeddings for piece in pieces), [])
    except InvalidRequestError:
        return None  # read() reports it
    return next((len(found) for found in embeddings if isinstance(found, (list, np.ndarray))), None)


def check_file(path: Path) -> None:
    """Raise InvalidRequestError if a file does not exist or has an unknown suffix."""
    _reader(path)


def files_of(folder: Path) -> list[Path]:
    """Return the files of records in a folder, as Spark and others write one, sorted. Empty for any other path."""
    if not folder.is_dir():
        return []
    from chromadb_compaction.chroma.client import SQLITE_FILE  # late: it loads ChromaDB

    if (folder / SQLITE_FILE).exists():
        return []
    files = sorted(folder.iterdir())
    return [file for file in files if file.name.endswith(_SUFFIXES) and not file.name.startswith(("_", "."))]


def _reader(path: Path) -> Callable[[Path], Iterator[Records]]:
    """Return the reader for the file's content, whatever its name, or else for its name."""
    if not path.is_file():
        raise InvalidRequestError(f"there is no file {path}")
    start = _start(path)
    if start == _PARQUET_START:
        return _read_parquet
    if start.startswith(_GZIP_START):
        return _read_json_lines
    if path.name.endswith(".parquet"):
        return _read_parquet
    if path.name.endswith(_SUFFIXES):
        return _read_json_lines
    raise InvalidRequestError(f"{path} is neither .jsonl, .jsonl.gz, .parquet nor a ChromaDB directory or URL")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_PARQUET_START))


def _read_json_lines(path: Path) -> Iterator[Records]:
    packed = path.suffix == ".gz" or _start(path).startswith(_GZIP_START)
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if packed else nullcontext(raw) as text:
        numbered = strict_json.lines_of(cast("Iterable[bytes]", text))
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
    with _errors_about(where):
        check_names(record, "name")
    return record


def _read_parquet(path: Path) -> Iterator[Records]:
    """Yield the records of a file with the columns of a delta. Embeddings without nulls stay numpy arrays."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from chromadb_compaction.deltas.parquet.schema import read_footer, record_columns

    try:
        with pa.OSFile(str(path), "rb") as source:
            footer = read_footer(source)
            with _errors_about(str(path)):
                names = record_columns(footer.schema.to_arrow_schema())
            bytes_per_row = path.stat().st_size / max(footer.num_rows, 1)
            for batch in pq.ParquetFile(source, metadata=footer).iter_batches(CHUNK, columns=names):
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
        uris=[record.get("uri") for record in records],
        size=size,
    )


def _is_delete(record: dict[str, Any]) -> bool:
    with _errors_about(f"the record {record.get('id')!r}"):
        deleted = check_op(record.get("op"))
        if deleted:
            check_delete(record)
    return deleted


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


@contextmanager
def _errors_about(what: str) -> Iterator[None]:
    """Turn the reason against a delta into an error of the command, about `what`."""
    try:
        yield
    except CorruptDeltaError as error:
        raise InvalidRequestError(f"{what}: {error.message}", next_step=error.next_step) from error
