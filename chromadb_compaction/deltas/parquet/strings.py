"""Strings in Parquet's delta encodings: what they take in memory, found before pyarrow makes them.

Writers of version 2 use these encodings. A page starts with lengths in DELTA_BINARY_PACKED. pyarrow allocates memory
for as many as their header announces. In DELTA_BYTE_ARRAY, each string may repeat the start of the one before it.
"""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.deltas.columns import damaged
from chromadb_compaction.deltas.parquet.varints import varint, zigzag
from chromadb_compaction.errors import CorruptDeltaError

DELTA_LENGTH_BYTE_ARRAY: Final = 6
DELTA_BYTE_ARRAY: Final = 7
STRING_ENCODINGS: Final = (DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY)

_RLE: Final = 3
_UNCOMPRESSED: Final = 0
_CODECS: Final = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_WIDEST = 32

Struct = dict[int, Any]


def repeated_bytes(page: bytes, header: Struct, *, codec: int, nullable: bool) -> int:
    """Return how many bytes the page's strings repeat from each other. They take this and the page's size.

    Raises CorruptDeltaError if the page announces more lengths than it has values, or cannot be checked.

    Args:
        page: The page as it is stored, after its header.
        header: Its header, with one of STRING_ENCODINGS.
        codec: The number of the column's compression in Parquet.
        nullable: Whether the column may have nulls. It must not be nested.
    """
    data = header.get(5)
    if data is not None:
        values, encoding = data[1], data[2]
        content = _decompressed(page, header[2], codec)
        at = _after_levels(content, data) if nullable else 0
    else:
        data = header[8]
        values, encoding = data[1], data[4]
        levels = data[5] + data[6]
        content = page[levels:]
        if data.get(7, True):
            content = _decompressed(content, header[2] - levels, codec)
        at = 0
    lengths, at = _numbers(content, at, values)
    if encoding == DELTA_LENGTH_BYTE_ARRAY:
        return 0
    _numbers(content, at, values)  # the lengths of what each string does not repeat
    return int(lengths.clip(min=0).sum())


def longest_entry(page: bytes, header: Struct, *, codec: int) -> int:
    """Return the length of the longest string in a dictionary's page."""
    content = _decompressed(page, header[2], codec)
    at = longest = 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        longest = max(longest, length)
        at += 4 + length
    return longest


def _decompressed(content: bytes, size: int, codec: int) -> bytes:
    if codec == _UNCOMPRESSED or not content:
        return content
    if codec not in _CODECS:
        raise CorruptDeltaError(
            f"a column has strings in a delta encoding, compressed by Parquet's codec {codec}, which cannot be checked",
            next_step="compress it with zstd or snappy",
        )
    return pa.decompress(content, size, cast("Any", _CODECS[codec]), asbytes=True)


def _after_levels(content: bytes, data: Struct) -> int:
    """Return the position after the levels that say which values of a nullable column are null."""
    if data[3] != _RLE:
        raise damaged("Parquet", "its levels are in an outdated encoding")
    return 4 + int.from_bytes(content[:4], "little")


def _numbers(content: bytes, at: int, most: int) -> tuple[NDArray[np.int64], int]:
    """Return a sequence of at most `most` numbers in DELTA_BINARY_PACKED, and the position after it."""
    if at >= len(content):
        return np.empty(0, dtype=np.int64), at  # pyarrow takes an empty page for one of nulls
    block, at = varint(content, at)
    parts, at = varint(content, at)
    count, at = varint(content, at)
    first, at = _number(content, at)
    if count > most:
        raise damaged("Parquet", f"a page of {most} values announces {count} strings")
    if not block or block % 128 or not parts or block % parts or (block // parts) % 32:
        raise damaged("Parquet", "a page's blocks of numbers have an impossible size")
    differences = [np.array([first], dtype=np.int64)]
    left = count - 1
    while left > 0:
        smallest, at = _number(content, at)
        widths, at = content[at : at + parts], at + parts
        if len(widths) < parts:
            raise damaged("Parquet", "a page ends within its numbers")
        for width in widths[: -(-left * parts // block)]:
            size = width * block // parts // 8
            packed = _unpacked(content[at : at + size], width, min(left, block // parts))
            differences.append(packed + smallest)
            left, at = left - len(packed), at + size
    # They are 32 bits wide, and wrap around.
    return np.cumsum(np.concatenate(differences)).astype(np.int32).astype(np.int64)[:count], at


def _unpacked(packed: bytes, width: int, count: int) -> NDArray[np.int64]:
    """Return the first `count` numbers of `width` bits each."""
    if width > _WIDEST:
        raise damaged("Parquet", f"a page has numbers of {width} bits")
    if len(packed) * 8 < count * width:
        raise damaged("Parquet", "a page ends within its numbers")
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count * width, bitorder="little")
    return bits.reshape(count, width).astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))


def _number(content: bytes, at: int) -> tuple[int, int]:
    """Return a number of 32 bits, and the position after it."""
    number, at = zigzag(content, at)
    return ((number + 2**31) % 2**32) - 2**31, at
