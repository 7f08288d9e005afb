"""The rows of a delta, from the end of its object."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.deltas.deferral.row_counts import TAIL_BYTES, count_rows
from chromadb_compaction.deltas.deferral.rule import PendingSize
from tests.builders import NOW, BuiltDelta, a_delta, a_jsonl_delta, parquet
from tests.fakes.objects import InMemoryObjectStore

MOST = 10_000_000


def counted(delta: BuiltDelta, objects: InMemoryObjectStore | None = None) -> PendingSize | None:
    store = objects or InMemoryObjectStore(lambda: NOW)
    return count_rows(delta.put_into(store), store, most_bytes=MOST)


@given(st.integers(0, 200), st.integers(0, 5))
def test_the_rows_of_a_parquet_delta_are_upserts_and_deletes(upserts: int, deletes: int) -> None:
    delta = a_delta({f"u{n}": [1.0, 2.0] for n in range(upserts)}, {f"d{n}" for n in range(deletes)})
    size = counted(delta)

    assert size is not None
    assert (size.deltas, size.bytes, size.rows, size.oldest) == (1, len(delta.body), upserts + deletes, NOW)


def test_the_unpacked_bytes_of_a_parquet_delta_are_those_of_its_groups() -> None:
    body = parquet(pa.table({"id": [str(n) for n in range(5000)]}), compression="zstd", row_group_size=1000)
    size = counted(a_delta()._replace(body=body))

    footer = pq.read_metadata(pa.BufferReader(body))
    assert size is not None
    assert size.unpacked_bytes == sum(footer.row_group(n).total_byte_size for n in range(footer.num_row_groups))


def test_a_large_delta_is_not_read_whole() -> None:
    objects = InMemoryObjectStore(lambda: NOW)
    vectors = {f"u{n}": [float(100 * n + m) for m in range(100)] for n in range(1000)}
    delta = a_delta(vectors)

    size = counted(delta, objects)

    assert size is not None
    assert size.rows == 1000
    assert len(delta.body) > 10 * TAIL_BYTES
    assert [call for call, _ in objects.calls] == ["put", "head", "get_range"]


def test_a_footer_longer_than_the_part_that_is_read_first_is_read_again() -> None:
    body = parquet(pa.table({"id": ["a"] * 3}).replace_schema_metadata({"long": "x" * 2 * TAIL_BYTES}))

    size = counted(a_delta()._replace(body=body))

    assert size is not None
    assert size.rows == 3


@given(st.integers(0, 50))
def test_the_rows_of_a_json_lines_delta_are_its_lines(rows: int) -> None:
    size = counted(a_jsonl_delta([{"id": str(n), "op": "delete"} for n in range(rows)]))

    assert size is not None
    assert size.rows == rows


def test_all_members_of_a_gzip_file_count() -> None:
    body = gzip.compress(b"{}\n{}\n") + gzip.compress(b"{}\n")
    size = counted(a_jsonl_delta([])._replace(body=body))

    assert size is not None
    assert (size.rows, size.unpacked_bytes) == (3, 9)


@pytest.mark.parametrize(
    "body",
    [b"", b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"PAR1" + b"\x15" * 40 + b"\x20\0\0\0PAR1", b"x" * 100],
    ids=["empty", "short", "a footer beyond the file", "damaged", "noise"],
)
def test_what_is_not_a_delta_has_no_known_rows(body: bytes) -> None:
    assert counted(a_delta()._replace(body=body)) is None
    assert counted(a_jsonl_delta([])._replace(body=body or b"x")) is None


def test_json_lines_that_are_cut_off_or_unpack_to_too_much_have_no_known_rows() -> None:
    lines = a_jsonl_delta([{"id": str(n)} for n in range(1000)])
    bomb = gzip.compress(b"\0" * (MOST + 1))

    assert counted(lines._replace(body=lines.body[:-20])) is None
    assert counted(lines._replace(body=bomb)) is None


def test_a_delta_that_has_gone_changed_or_cannot_be_read_has_no_known_rows() -> None:
    objects = InMemoryObjectStore(lambda: NOW)
    gone, changed, archived = (a_delta({"a": [1.0]}).put_into(objects) for _ in range(3))
    objects.delete([gone.key])
    objects.put(changed.key, b"other content")
    objects.unreadable.add(archived.key)

    assert [count_rows(each, objects, most_bytes=MOST) for each in (gone, changed, archived)] == [None] * 3
