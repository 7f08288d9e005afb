"""The memory that a Parquet file needs is known before it is unpacked, even if its footer is false."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chromadb_compaction.deltas.parquet.sizes import LARGEST_FOOTER, unpacked_bytes
from chromadb_compaction.errors import CorruptDeltaError
from tests.builders import parquet

UNLIMITED = 10**12


def a_file(**columns: Any) -> bytes:
    return parquet(pa.table(columns or {"id": ["a", "b"], "embedding": [[1.0, 2.0], [3.0, 4.0]]}))


def varint(number: int) -> bytes:
    """Return a number as Thrift's compact protocol writes an i32 or i64."""
    number <<= 1
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize("compression", ["NONE", "SNAPPY", "GZIP", "ZSTD", "BROTLI", "LZ4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_no_file_takes_more_memory_than_predicted(compression: Any, version: Any, *, dictionary: bool) -> None:
    numbers = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6000, dtype=np.float32)), 6)
    table = pa.table({"id": [str(n) for n in range(1000)], "embedding": numbers, "document": ["some text"] * 1000})
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression=compression,
        data_page_version=version,
        use_dictionary=dictionary,
        row_group_size=300,
        data_page_size=2000,
    )

    assert table.nbytes <= unpacked_bytes(sink.getvalue().to_pybytes(), enough=UNLIMITED) < 10 * table.nbytes


@pytest.mark.parametrize("compression", ["NONE", "SNAPPY", "GZIP", "ZSTD", "BROTLI", "LZ4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("encoding", ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
def test_strings_in_a_delta_encoding_take_no_more_than_predicted(compression: Any, version: Any, encoding: str) -> None:
    documents = [None if n % 7 == 0 else "a common beginning of many texts " * (n % 5) + str(n) for n in range(1000)]
    table = pa.table({"id": [f"{n:06d}" for n in range(1000)], "document": documents, "metadata": [None] * 1000})
    body = parquet(
        table,
        use_dictionary=False,
        column_encoding=dict.fromkeys(("id", "document"), encoding),
        compression=compression,
        data_page_version=version,
        row_group_size=300,
        data_page_size=2000,
    )

    assert table.nbytes <= unpacked_bytes(body, enough=UNLIMITED) < 10 * table.nbytes


def test_a_text_that_every_row_repeats_is_counted_for_every_row() -> None:
    table = pa.table({"id": ["a"] * 500, "document": ["x" * 100_000] * 500})
    body = parquet(table, use_dictionary=False, column_encoding={"document": "DELTA_BYTE_ARRAY"})

    assert len(body) < 20_000
    assert unpacked_bytes(body, enough=UNLIMITED) >= 50_000_000


@pytest.mark.parametrize("encoding", ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
def test_a_page_that_announces_more_strings_than_it_has_values_is_an_error(encoding: str) -> None:
    table = pa.table({"id": ["abcd", "efgh"]}, schema=pa.schema([pa.field("id", pa.string(), nullable=False)]))
    body = parquet(table, use_dictionary=False, column_encoding={"id": encoding}, compression="none")
    numbers = b"\x80\x01\x04\x02"  # blocks of 128 in 4 parts, 2 numbers
    assert numbers in body
    hostile = body.replace(numbers, b"\x80\x01\x04\x7f")

    with pytest.raises(CorruptDeltaError, match="a page of 2 values announces 127 strings"):
        unpacked_bytes(hostile, enough=UNLIMITED)


def test_a_page_header_with_a_larger_size_than_the_footer_counts() -> None:
    body = a_file(document=["x" * 5000])
    shape = pq.read_metadata(pa.BufferReader(body))
    at = shape.row_group(0).column(0).dictionary_page_offset
    assert at is not None
    # Field 1 is the page's type, field 2 its uncompressed size: 5004 bytes.
    assert body[at + 2 : at + 5] == b"\x15" + varint(5004)
    hostile = body[: at + 3] + varint(2**30) + body[at + 5 :]

    assert unpacked_bytes(hostile, enough=UNLIMITED) > 2**30


def test_a_footer_too_large_for_a_delta_is_an_error_before_it_is_read() -> None:
    body = a_file(**{"x" * LARGEST_FOOTER: [1]})

    with pytest.raises(CorruptDeltaError, match=f"over the limit of {LARGEST_FOOTER}; write fewer, larger row groups"):
        unpacked_bytes(body, enough=UNLIMITED)


def test_overlapping_columns_are_an_error() -> None:
    body = a_file(document=["x" * 60])
    size = int.from_bytes(body[-8:-4], "little")
    chunk = pq.read_metadata(pa.BufferReader(body)).row_group(0).column(0).total_compressed_size
    footer = body[-8 - size : -8].replace(varint(chunk), varint(8000)[: len(varint(chunk))])
    assert footer != body[-8 - size : -8]

    with pytest.raises(CorruptDeltaError, match="larger than the file"):
        unpacked_bytes(body[: -8 - size] + footer + body[-8:], enough=UNLIMITED)


def test_counting_stops_above_the_limit() -> None:
    body = a_file(document=[str(n) * 1000 for n in range(100)])

    assert 1000 < unpacked_bytes(body, enough=1000) <= unpacked_bytes(body, enough=UNLIMITED)


@pytest.mark.parametrize("footer", [b"", b"\x00", b"\x19", b"\xff" * 30, b"\x1c" * 30, b"\x15\x02\x49\x5c"])
def test_a_footer_that_makes_no_sense_is_an_error(footer: bytes) -> None:
    with pytest.raises(CorruptDeltaError, match="is not Parquet, or it is damaged or cut off"):
        unpacked_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1", enough=UNLIMITED)
