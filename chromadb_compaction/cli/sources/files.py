"""Files of records, read in pieces that fit memory however large the file."""

from __future__ import annotations

import gzip
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

from chromadb_compaction.deltas import strict_json
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.manifest import Space

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 1000
NAMES = ("id", "op", "embedding", "document", "metadata")


class Rows(NamedTuple):
    """Some records, column by column. `embeddings` is a matrix when every record has one. `size` is for progress."""

    ids: Sequence[str]
    deleted: Sequence[bool]
    embeddings: Any
    documents: Sequence[str | None]
    metadatas: Sequence[dict[str, Any] | None]
    size: int = 0

    def part(self, start: int, end: int | None = None) -> Self:
        """Return the records from `start` up to `end`, of the same size for progress."""
        some = slice(start, end)
        return type(self)(
            self.ids[some],
            self.deleted[some],
            self.embeddings[some],
            self.documents[some],
            self.metadatas[some],
            self.size,
        )


class Source(ABC):
    """Records on their way into `collection`.

    `name` is for people; `location` is where the source is found again from anywhere. `size` is what the sizes of
    the pieces add up to, known at the first of them. `space` and `embedding_function` are the collection's, if the
    source says them.
    """

    name: str
    location: str
    collection: str
    size: int
    space: Space | None = None
    embedding_function: str | None = None

    @abstractmethod
    def rows(self) -> Iterator[Rows]:
        """Yield all records, always in the same order. Raises InvalidRequestError for what cannot be read."""


class RecordFiles(Source):
    """Files that go to one collection, one after the other."""

    def __init__(self, paths: Sequence[Path], collection: str) -> None:
        self._files = [_open(path) for path in paths]
        self.name = ", ".join(path.name for path in paths)
        self.location = ", ".join(str(path.resolve()) for path in paths)
        self.collection = collection
        self.size = sum(file.size for file in self._files)

    def rows(self) -> Iterator[Rows]:
        """Yield the records of all files, a piece at a time."""
        for file in self._files:
            yield from file.pieces()


class RecordFile(ABC):
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size

    @abstractmethod
    def pieces(self) -> Iterator[Rows]:
        """Yield the records in order. Raises InvalidRequestError for a file that cannot be read."""


class JsonLines(RecordFile):
    """One JSON object a line, gzipped or not."""

    def pieces(self) -> Iterator[Rows]:
        """Yield the records, checked for known names."""
        with self.path.open("rb") as raw, self._text(raw) as text:
            numbered = ((number, line) for number, line in enumerate(text, 1) if line.strip())
            before = 0
            try:
                while chunk := list(islice(numbered, CHUNK)):
                    records = [self._record(number, line) for number, line in chunk]
                    yield _columns(records, size=raw.tell() - before)
                    before = raw.tell()
            except (EOFError, OSError, zlib.error) as error:
                raise InvalidRequestError(f"{self.path} is not whole: {error}") from error

    def _text(self, raw: IO[bytes]) -> AbstractContextManager[Iterable[bytes]]:
        return gzip.GzipFile(fileobj=raw) if self.path.name.endswith(".gz") else nullcontext(raw)

    def _record(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = strict_json.parse(line)
        except ValueError as error:
            raise InvalidRequestError(f"{self.path}, line {number}: {error}") from error
        if not isinstance(record, dict):
            raise InvalidRequestError(f"{self.path}, line {number}: this is no JSON object")
        _check_names(record, f"{self.path}, line {number}")
        return record


class ParquetFile(RecordFile):
    """A Parquet file with the columns of a delta."""

    def pieces(self) -> Iterator[Rows]:
        """Yield the records; embeddings stay a matrix where they can."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                _check_names(file.schema_arrow.names, str(self.path))
                total = max(file.metadata.num_rows, 1)
                for batch in file.iter_batches(CHUNK):
                    yield _batch(batch, size=self.size * len(batch) // total)
        except (pa.ArrowException, OSError) as error:
            raise InvalidRequestError(f"{self.path} cannot be read as Parquet: {error}") from error


def _open(path: Path) -> RecordFile:
    if not path.is_file():
        raise InvalidRequestError(f"there is no file {path}")
    if path.name.endswith(".parquet"):
        return ParquetFile(path)
    if path.name.endswith((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")):
        return JsonLines(path)
    raise InvalidRequestError(f"{path} is neither .jsonl, .jsonl.gz, .parquet nor a ChromaDB directory or URL")


def _batch(batch: pa.RecordBatch, *, size: int) -> Rows:
    names = [name for name in batch.schema.names if name != "embedding"]
    rows = _columns(batch.select(names).to_pylist(), size=size)
    if "embedding" not in batch.schema.names:
        return rows
    column = batch.column("embedding")
    vectors = column.to_pylist() if column.null_count else column.to_numpy(zero_copy_only=False)
    return rows._replace(embeddings=list(vectors))


def _columns(records: Sequence[dict[str, Any]], *, size: int) -> Rows:
    for record in records:
        if record.get("op") not in {None, "upsert", "delete"}:
            raise InvalidRequestError(f"the record {record.get('id')!r}: op must be upsert or delete")
    return Rows(
        ids=[record.get("id", "") for record in records],
        deleted=[record.get("op") == "delete" for record in records],
        embeddings=[record.get("embedding") for record in records],
        documents=[record.get("document") for record in records],
        metadatas=[_metadata(record) for record in records],
        size=size,
    )


def _metadata(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the metadata; a string holds it as JSON, as in a Parquet delta."""
    value = record.get("metadata")
    if not isinstance(value, str):
        return value
    try:
        parsed = strict_json.parse(value.encode())
    except ValueError as error:
        raise InvalidRequestError(f"the record {record.get('id')!r}: its metadata is no JSON: {error}") from error
    if parsed is not None and not isinstance(parsed, dict):
        raise InvalidRequestError(f"the record {record.get('id')!r}: its metadata is no JSON object")
    return parsed


def _check_names(names: Sequence[str] | dict[str, Any], where: str) -> None:
    unknown = next((name for name in names if name not in NAMES), None)
    if unknown is not None:
        raise InvalidRequestError(f"{where}: the name {unknown!r} is unknown; a record has {', '.join(NAMES)}")
