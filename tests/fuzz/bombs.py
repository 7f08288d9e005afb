"""Small files that are huge when decoded, for every compression, encoding and shape that allows it.

Most are valid apart from their size, so that only a check of the size protects the reader.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa

from tests.fuzz.bodies import DIMENSION, packed, parquet_of

SWOLLEN = 24 * 1024 * 1024
"""Decoded bytes of a bomb: six times the limit of a delta in these passes."""

Bomb = Callable[[Random], bytes]


def one_document(chance: Random) -> bytes:
    """A single text, in one page."""
    columns = {"id": pa.array(["a"]), "embedding": _vectors(1), "document": pa.array(["x" * SWOLLEN])}
    return parquet_of(columns, compression=_compression(chance), use_dictionary=False)


def one_vector(chance: Random) -> bytes:
    """A single vector of zeros, compressed or run-length encoded."""
    vector = pa.ListArray.from_arrays([0, SWOLLEN // 4], pa.array(np.zeros(SWOLLEN // 4, np.float32)))
    columns = {"id": pa.array(["a"]), "embedding": vector}
    return parquet_of(columns, compression=_compression(chance), use_dictionary=chance.random() < 0.5)


def one_text_in_every_row(chance: Random) -> bytes:
    """A long text that the file contains once and every row refers to."""
    rows, size = chance.choice(((100, 500_000), (5_000, 10_000)))
    name, text = chance.choice((("document", "x" * size), ("metadata", json.dumps({"a": "x" * size}))))
    columns = {"id": pa.array(["a"] * rows), "embedding": _vectors(rows), name: pa.array([text] * rows)}
    return parquet_of(columns, compression="zstd", dictionary_pagesize_limit=2**20)


def one_text_that_every_row_repeats(chance: Random) -> bytes:
    """Return a long text that the file holds once, and every other row repeats as its beginning."""
    rows, size = chance.choice(((100, 500_000), (5_000, 10_000)))
    columns = {"id": pa.array(["a"] * rows), "embedding": _vectors(rows), "document": pa.array(["x" * size] * rows)}
    encodings = {"document": "DELTA_BYTE_ARRAY"}
    return parquet_of(columns, compression=_compression(chance), use_dictionary=False, column_encoding=encodings)


def one_text_in_every_item_of_a_list(chance: Random) -> bytes:
    """A repeated text in a column that should contain vectors."""
    column = pa.array([["x" * 900] * 50_000])
    return parquet_of({"id": pa.array(["a"]), "embedding": column}, compression="zstd")


def many_rows(chance: Random) -> bytes:
    """Many rows with almost no content."""
    rows = SWOLLEN // 64
    columns = {"id": pa.array(["a"] * rows), "op": pa.array(["delete"] * rows)}
    return parquet_of(columns, compression=_compression(chance))


def many_groups(chance: Random) -> bytes:
    """A row group for each row, so that the file is mostly footer."""
    columns = {"id": pa.array([str(n) for n in range(5_000)]), "op": pa.array(["delete"] * 5_000)}
    return parquet_of(columns, row_group_size=1)


def many_columns(chance: Random) -> bytes:
    """Far too many columns."""
    return parquet_of({f"c{number}": pa.array([1]) for number in range(chance.choice((300, 3000)))})


def nested_types(chance: Random) -> bytes:
    """Lists of lists of lists."""
    kind: Any = pa.float32()
    for _ in range(chance.choice((2, 20, 60))):
        kind = pa.list_(kind)
    return parquet_of({"id": pa.array(["a"]), "embedding": pa.nulls(1, kind)})


def gzip_of_one_line(chance: Random) -> bytes:
    """A line that does not fit."""
    return _gzip_of(b'{"id":"a","embedding":[1,2,3],"document":"', b"x", b'"}')


def gzip_of_blank_lines(chance: Random) -> bytes:
    """Only line ends."""
    return _gzip_of(b"", b"\n", b"")


def gzip_of_many_members(chance: Random) -> bytes:
    """Many small gzip members in one file."""
    return gzip.compress(b" " * (SWOLLEN // 64), mtime=0) * 64


def gzip_just_below_the_limit(chance: Random) -> bytes:
    """As many tiny rows as the limit on bytes allows."""
    return packed(b'{"id":"a","op":"delete"}\n' * 160_000)


def _gzip_of(head: bytes, filling: bytes, tail: bytes) -> bytes:
    writer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    parts = [writer.compress(head)]
    parts += [writer.compress(filling * 2**20) for _ in range(SWOLLEN // 2**20)]
    return b"".join([*parts, writer.compress(tail), writer.flush()])


def _vectors(rows: int) -> pa.Array[Any]:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ones(rows * DIMENSION, np.float32)), DIMENSION)


def _compression(chance: Random) -> Any:
    return chance.choice(("gzip", "zstd", "snappy", "brotli", "lz4"))


PARQUET: tuple[Bomb, ...] = (
    one_document,
    one_vector,
    one_text_in_every_row,
    one_text_that_every_row_repeats,
    one_text_in_every_item_of_a_list,
    many_rows,
    many_groups,
    many_columns,
    nested_types,
)
JSON_LINES: tuple[Bomb, ...] = (
    gzip_of_one_line,
    gzip_of_blank_lines,
    gzip_of_many_members,
    gzip_just_below_the_limit,
)
