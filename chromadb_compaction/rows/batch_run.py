"""The run of a batch: the runs of its collections in one file, one after the other, and the list of their places."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO, NamedTuple, cast

import pyarrow as pa
from pydantic import TypeAdapter

from chromadb_compaction.messages import Message
from chromadb_compaction.rows.id_ranges import GroupIds, IdRange, SampledIds, sample_ids
from chromadb_compaction.rows.runs import open_run
from chromadb_compaction.rows.shapes import CollectionChange
from chromadb_compaction.rows.spill import SpillingMerge

RUN = "run.parquet"
COPIED_BYTES = 1024 * 1024
"""The bytes of a run in memory while it is copied."""


class RunPiece(NamedTuple):
    """Consecutive bytes of a run: one of its row groups, or its footer. All of a run with one row group.

    Attributes:
        first: The first id of the row group. None: it is the footer.
        bytes: Their number.
        sha256: Their SHA-256.
    """

    first: str | None
    bytes: int
    sha256: str


class RunPart(Message):
    """One collection's part of a batch.

    Attributes:
        collection: The name of the collection.
        offset: The place of its run in the file, in bytes.
        bytes: The size of its run. 0 if it has no rows.
        rows: The number of its rows.
        change: The changes to the collection beside the rows.
        ids: Ids of its rows, as id_ranges.sample_ids returns them. Empty if it has no rows.
        pieces: The pieces of its run, in order. Empty if it has no rows, or if an earlier version has written it.
    """

    collection: str
    offset: int
    bytes: int
    rows: int
    change: CollectionChange = CollectionChange()
    ids: tuple[str, ...] = ()
    pieces: tuple[RunPiece, ...] = ()

    @property
    def sampled(self) -> SampledIds:
        """The ids of its rows, as far as they are known."""
        return SampledIds(self.ids, self.rows)

    def pieces_within(self, wanted: Sequence[IdRange]) -> list[tuple[int, RunPiece]]:
        """Return the pieces that are read for these ids, each with its place in the run. None: it has no such row."""
        groups = GroupIds([piece.first for piece in self.pieces if piece.first is not None], self.ids[-1])
        numbers = {number for ids in wanted for number in groups.within(ids)}
        starts = accumulate((piece.bytes for piece in self.pieces), initial=0)
        return [
            (start, piece)
            for number, (start, piece) in enumerate(zip(starts, self.pieces, strict=False))
            if numbers and (number in numbers or piece.first is None)
        ]


RUN_PARTS = TypeAdapter(list[RunPart])
"""The stored list of parts that MergeBatch writes beside the run."""


class BatchRun:
    """Merges tables of one collection after the other, and appends each collection's run to `file`.

    Args:
        directory: An empty directory for the file and for what is spilled. The caller removes it.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / RUN
        self._directory = directory
        self._parts: list[RunPart] = []
        self._collection: str | None = None
        self._merge = self._new_merge()
        self._change = CollectionChange()

    def has_space_for(self, table: pa.Table) -> bool:
        """Return whether the disk can hold `table` beside the rows that are not in the file yet."""
        return self._merge.has_space_for(table)

    def begin(self, collection: str) -> None:
        """Let the next tables be this collection's. The one before is complete, and its spills are removed.

        Does nothing if its tables are being added already. A collection must not begin again after another.
        """
        if collection != self._collection:
            self._finish_part()
            self._collection = collection

    def add(self, table: pa.Table, change: CollectionChange) -> None:
        """Add a table with the columns of a run, and what its delta changes beside the rows."""
        self._merge.add(table)
        self._change = self._change.merged(change)

    def finish(self) -> list[RunPart]:
        """Complete the file, and return the parts with rows or changes. Without any rows there is no file."""
        self._finish_part()
        return self._parts

    def _new_merge(self) -> SpillingMerge:
        return SpillingMerge(Path(mkdtemp(dir=self._directory)))

    def _finish_part(self) -> None:
        if self._collection is None:
            return
        merge, change = self._merge, self._change
        run = merge.directory / RUN
        rows = merge.write(run)
        part = RunPart(collection=self._collection, offset=0, bytes=0, rows=rows, change=change)
        if rows:
            ids, pieces = _sample(run), _pieces(run)
            offset, size = _append(run, self.file)
            part = part.model_copy(update={"offset": offset, "bytes": size, "ids": ids, "pieces": pieces})
        shutil.rmtree(merge.directory)
        if rows or change != CollectionChange():
            self._parts.append(part)
        self._collection, self._merge, self._change = None, self._new_merge(), CollectionChange()


def _sample(run: Path) -> tuple[str, ...]:
    with open_run(run) as file:
        return tuple(sample_ids(file))


def _pieces(run: Path) -> tuple[RunPiece, ...]:
    with open_run(run) as file:
        footer = file.metadata
    firsts: list[str | None] = [*cast("GroupIds", GroupIds.of(footer)).firsts]
    ends = [footer.row_group(number).column(0).data_page_offset for number in range(1, len(firsts))]
    if ends:
        last = footer.row_group(len(firsts) - 1)
        column = last.column(last.num_columns - 1)
        ends.append(column.data_page_offset + column.total_compressed_size)
        firsts.append(None)
    spans = pairwise([0, *ends, run.stat().st_size])
    with run.open("rb") as source:
        return tuple(
            RunPiece(first, end - start, hashlib.sha256(source.read(end - start)).hexdigest())
            for first, (start, end) in zip(firsts, spans, strict=True)
        )


def _append(part: Path, file: Path) -> tuple[int, int]:
    """Move the bytes of `part` to the end of `file`, and return their offset and number."""
    size = part.stat().st_size
    if not file.exists():
        part.rename(file)
        return 0, size
    with file.open("ab") as target, part.open("rb") as source:
        offset = target.tell()
        shutil.copyfileobj(source, target)
    return offset, size


def split(file: Path, parts: Sequence[RunPart], directory: Path) -> dict[str, Path]:
    """Write each part with rows to a file of its own, named for its position in `parts`. Remove `file`.

    Return the files by collection. Raises EOFError if `file` is shorter than its parts.
    """
    directory.mkdir(parents=True)
    files = {part.collection: directory / f"{number}.parquet" for number, part in enumerate(parts) if part.rows}
    if len(files) == 1:
        # As at MergeBatch, nothing is copied if a batch has one collection.
        file.rename(next(iter(files.values())))
        return files
    with file.open("rb") as source:
        for part in parts:
            if part.rows:
                source.seek(part.offset)
                _copy(source, files[part.collection], part.bytes)
    file.unlink()
    return files


def _copy(source: BinaryIO, target: Path, size: int) -> None:
    with target.open("wb") as opened:
        while size:
            piece = source.read(min(size, COPIED_BYTES))
            if not piece:
                raise EOFError(f"{target.name}: {size:,} bytes of the run are missing")
            opened.write(piece)
            size -= len(piece)
