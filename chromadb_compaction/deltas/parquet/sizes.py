"""The memory that a Parquet file needs according to its footer and page headers, found without unpacking it.

This must run first: pyarrow allocates the size in a page's header before it reads the page, and aborts the process for
some damaged footers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from chromadb_compaction.deltas.columns import damaged
from chromadb_compaction.deltas.parquet.strings import STRING_ENCODINGS, longest_entry, repeated_bytes
from chromadb_compaction.deltas.parquet.thrift import Struct, read_struct
from chromadb_compaction.deltas.records import ROW_BYTES
from chromadb_compaction.errors import CorruptDeltaError

MAGIC: Final = b"PAR1"
LARGEST_FOOTER: Final = 1024 * 1024
"""Enough for thousands of row groups. pyarrow needs 26 times the footer's size in memory."""
VALUE_BYTES: Final = 4
"""The least memory for one value, however it is encoded."""
PAGE_BYTES: Final = 1000
"""The least to count for one page, mostly for the time to find it."""
ENTRY_BYTES: Final = 16
"""The memory for one empty dictionary entry."""

_REQUIRED, _OPTIONAL = 0, 1


def unpacked_bytes(body: bytes, *, enough: int) -> int:
    """Return an upper bound for the bytes that the whole file takes in memory.

    Counting stops above `enough`. Raises CorruptDeltaError if the footer or a page's header is damaged.
    """
    try:
        return _of_file(body, enough)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise damaged("Parquet", "its footer or a page's header makes no sense") from error


def delta_string_columns(body: bytes) -> set[int]:
    """Return the numbers of the columns with strings in a delta encoding, of a file that `unpacked_bytes` accepts."""
    columns, repetitions = _columns(_footer(body))
    several = len(repetitions) // max(1, len(_footer(body).get(4, [])))
    return {
        number % several
        for number, column in enumerate(columns)
        for header, _ in _pages(body, column, column[5])
        if _encoding(header) in STRING_ENCODINGS
    }


def _columns(footer: Struct) -> tuple[list[Struct], list[int | None]]:
    """Return the metadata of all chunks, one after the other, and the repetition of each chunk's column."""
    groups: list[Struct] = footer.get(4, [])
    repetitions = list(_repetitions(footer[2]))
    columns = [column[3] for group in groups for column in group[1]]
    return columns, [repetition for group in groups for repetition, _ in zip(repetitions, group[1], strict=True)]


def _repetitions(schema: list[Struct]) -> Iterator[int | None]:
    """Yield the repetition (required, optional, repeated) of each column that has values. None: it is nested."""
    open_groups = [schema[0].get(5) or 0]
    for element in schema[1:]:
        while not open_groups[-1]:
            open_groups.pop()
        open_groups[-1] -= 1
        children = element.get(5) or 0
        if children:
            open_groups.append(children)
        else:
            yield element.get(3) if len(open_groups) == 1 else None


def _of_file(body: bytes, enough: int) -> int:
    footer = _footer(body)
    groups: list[Struct] = footer.get(4, [])
    columns, repetitions = _columns(footer)
    if sum(_count(column[7]) for column in columns) > len(body):
        raise damaged("Parquet", "its columns are larger than the file")  # overlapping columns are read repeatedly
    total = max(_count(footer[3]), sum(_count(group[3]) for group in groups)) * ROW_BYTES
    for column, repetition in zip(columns, repetitions, strict=True):
        if total > enough:
            break
        total += _of_chunk(body, column, repetition, enough)
    return total


def _footer(body: bytes) -> Struct:
    if body[:4] != MAGIC or body[-4:] != MAGIC or len(body) < 12:
        raise damaged("Parquet", "it does not begin and end as Parquet does")
    size = int.from_bytes(body[-8:-4], "little")
    if size > len(body) - 12:
        raise damaged("Parquet", "its footer is longer than the file")
    if size > LARGEST_FOOTER:
        raise CorruptDeltaError(
            f"the file's footer has {size} bytes, over the limit of {LARGEST_FOOTER}",
            next_step="write fewer, larger row groups",
        )
    return read_struct(body, len(body) - 8 - size)[0]


def _of_chunk(body: bytes, column: Struct, repetition: int | None, enough: int) -> int:
    """Return the larger of two sizes: that in the footer, and the sum of those in the page headers."""
    values = _count(column[5])
    in_footer = max(_count(column[6]), values * VALUE_BYTES)
    total = indexed = 0
    dictionary, delta = None, False
    for header, at in _pages(body, column, values):
        total += _of_page(header)
        if total > enough:
            break
        page = body[at : at + _count(header[3])]
        if _encoding(header) in STRING_ENCODINGS:
            if repetition not in (_REQUIRED, _OPTIONAL):
                raise CorruptDeltaError("a column of lists has strings", next_step="write embeddings as numbers")
            total += repeated_bytes(page, header, codec=column[4], nullable=repetition == _OPTIONAL)
            delta = True
        elif header.get(7):
            dictionary = (page, header)
        else:
            indexed += _values(header)
    if delta and dictionary and total <= enough:  # then pyarrow cannot keep the dictionary
        total += indexed * longest_entry(*dictionary, codec=column[4])
    return max(in_footer, total)


def _of_page(header: Struct) -> int:
    dictionary = header.get(7)
    least = _count(dictionary[1]) * ENTRY_BYTES if dictionary else _values(header) * VALUE_BYTES
    return max(_count(header[2]), least, PAGE_BYTES)


def _values(header: Struct) -> int:
    data = header.get(5) or header.get(8)
    return _count(data[1]) if data else 0


def _encoding(header: Struct) -> int | None:
    first, second = header.get(5), header.get(8)
    if first:
        return int(first[2])
    return int(second[4]) if second else None


def _pages(body: bytes, column: Struct, values: int) -> Iterator[tuple[Struct, int]]:
    """Yield the headers of the pages that pyarrow will read: from the first, until it has all values.

    With each comes the position after it.
    """
    at, dictionary = _count(column[9]), column.get(11) or 0
    at = min(at, dictionary) if dictionary > 0 else at
    end = min(at + _count(column[7]), len(body))
    while at < end and values > 0:
        header, at = read_struct(body, at)
        yield header, at
        values -= _values(header)
        at += _count(header[3])


def _count(value: int) -> int:
    if value < 0:
        raise damaged("Parquet", "it gives a negative number for a size or a count")
    return value
