"""Choose the page size that stores a collection in the fewest bytes, and rewrite its database with it.

ChromaDB stores a document in two tables, and in an index on metadata values. SQLite cuts a value that is longer than a
part of a page, and stores the rest in overflow pages of its own, which are mostly empty. An index cuts at a quarter of
a page: with ChromaDB's pages of 4 KiB, a document of 1,000 bytes takes one page more.

Each table and index takes a page at least: 188 KB of pages of 4 KiB, 42 KB of the smallest, for a single record.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from chromadb_compaction.chroma.client import SQLITE_FILE, reclaim_pages
from chromadb_compaction.chroma.tables import UNSYNCED
from chromadb_compaction.rows.ledger import FoldPlan

DEFAULT_PAGES: Final = 4096
"""SQLite's default, and so ChromaDB's."""
LARGE_PAGES: Final = 16384
LARGEST_PAGES: Final = 32768
LEAST_PAGES: Final = 512
PAGE_SIZES: Final = (DEFAULT_PAGES, LARGE_PAGES, LARGEST_PAGES)
"""The sizes for any database. SQLite's largest, 64 KiB, would save 2 % more at most, of documents of 8,000 bytes."""
SMALL_BYTES: Final = 1024 * 1024
"""The largest database with the least pages. A larger one would have long chains of overflow pages, and deep trees."""
WORTHWHILE = 0.95
"""Another page size is used where it takes at most this share of the bytes."""

_TABLES = 60
"""The tables and indexes of ChromaDB's database. Each takes at least one page."""
_COPIES = 2
"""The tables that hold a document: `embedding_metadata`, and the content of the full-text table."""
_HEADER = 40
"""The bytes of a document's row beside the document."""
_TEXT_INDEX = 4
"""The bytes of the full-text index for each byte of a document."""

_SAMPLED = 1000
# The plus sign keeps SQLite from searching the index on metadata values, which would read every document.
_NEWEST_LENGTHS = """
    SELECT length(CAST(string_value AS BLOB)) FROM embedding_metadata
    WHERE id > (SELECT max(id) - ? FROM embeddings) AND +key = 'chroma:document'
"""
_DOCUMENTS = "SELECT count(*) FROM embedding_fulltext_search_docsize"


def best_page_size(
    lengths: Sequence[int], documents: int, *, small: bool = False, sizes: Sequence[int] = PAGE_SIZES
) -> int:
    """Return the page size for a number of documents, of which a sample has these lengths in bytes.

    The least pages are for a `small` database only. A larger size of `sizes` must be worthwhile beside a smaller one.
    """
    best, *others = sizes
    for size in (*((LEAST_PAGES,) if small else ()), *others):
        taken, least = (_bytes(np.asarray(lengths, np.int64), documents, each) for each in (size, best))
        best = size if taken <= WORTHWHILE * least else best
    return best


def _bytes(lengths: NDArray[np.int64], documents: int, page: int) -> float:
    """Return the bytes of a database, as SQLite's file format states them.

    See "Cell payload overflow pages" in https://www.sqlite.org/fileformat2.html.
    """
    in_table, in_index = page - 35, (page - 12) * 64 // 255 - 23
    each = _COPIES * _stored(lengths, page, in_table) + _stored(lengths, page, in_index)
    each += _TEXT_INDEX * float(lengths.mean()) if len(lengths) else 0
    return documents * each + _TABLES * page


def _stored(lengths: NDArray[np.int64], page: int, longest: int) -> float:
    """Return the mean bytes of a document's cell, with its overflow pages. A cell longer than `longest` is cut."""
    payload = np.resize(lengths, _SAMPLED) + _HEADER
    least = (page - 12) * 32 // 255 - 23
    rest = least + (payload - least) % (page - 4)
    kept = np.where(payload <= longest, payload, np.where(rest <= longest, rest, least))
    overflow = (payload - kept + page - 5) // (page - 4)
    return page * (_pages(kept.tolist(), page) + int(overflow.sum())) / _SAMPLED


def _pages(cells: list[int], page: int) -> int:
    """Return the pages that hold the cells, one after the other: a cell that does not fit into the rest begins one."""
    pages, free = 0, 0
    for cell in cells:
        if cell > free:
            pages, free = pages + 1, page
        free -= cell
    return pages


def prepare(directory: Path, plan: FoldPlan, sizes: Sequence[int]) -> None:
    """Give the database of a closed directory without records the page size for the documents of the plan."""
    first: Any = next(plan.written(_SAMPLED, ("document",)), None)
    if first is not None:
        lengths = pc.binary_length(first["document"]).drop_null().to_pylist()
        size = best_page_size(lengths, plan.written_rows * len(lengths) // first.num_rows, sizes=sizes)
        with closing(sqlite3.connect(directory / SQLITE_FILE, isolation_level=None)) as database:
            _resize(database, size)


def reclaim(directory: Path, *, rebuilt: bool, sizes: Sequence[int] = PAGE_SIZES) -> None:
    """Rewrite the database of a closed scratch copy if many of its pages are free, with the best page size.

    If the index was `rebuilt`, or the database is small or was, the page size alone is a reason. Temporary files stay
    on the disk: in memory they would take as much as the whole file.
    """
    small = (directory / SQLITE_FILE).stat().st_size <= SMALL_BYTES
    with closing(sqlite3.connect(directory / SQLITE_FILE, isolation_level=None)) as database:
        lengths = [length for (length,) in database.execute(_NEWEST_LENGTHS, (_SAMPLED,))]
        size = best_page_size(lengths, database.execute(_DOCUMENTS).fetchone()[0], small=small, sizes=sizes)
        outgrown = not small and _page_size(database) < DEFAULT_PAGES
        if rebuilt or small or outgrown:
            _resize(database, size)
        else:
            database.executescript(UNSYNCED)
            # It takes effect only if the pages are reclaimed.
            database.execute(f"PRAGMA page_size = {size:d}")
        reclaim_pages(database)


def _resize(database: sqlite3.Connection, size: int) -> None:
    """Rewrite the database with this page size, unless it has it."""
    database.executescript(UNSYNCED)
    if _page_size(database) != size:
        database.execute(f"PRAGMA page_size = {size:d}")
        database.execute("VACUUM")


def _page_size(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA page_size").fetchone()[0])
