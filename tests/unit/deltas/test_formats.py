"""Deltas in both formats, of any producer."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import time
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chromadb_compaction.deltas.columns import DeltaColumns
from chromadb_compaction.deltas.formats import Delta, read_delta, write_delta
from chromadb_compaction.deltas.header import DeltaHeader
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.rows.fingerprints import DELETED, fingerprint
from chromadb_compaction.rows.runs import run_schema
from tests.builders import NOW, BuiltDelta, a_delta, a_jsonl_delta, a_uuid7, parquet

LIMIT = 1_000_000


def read(delta: BuiltDelta, *, max_bytes: int = LIMIT) -> Delta:
    return read_delta(delta.key, delta.body, now=NOW, max_bytes=max_bytes)


def reason_of(delta: BuiltDelta, *, max_bytes: int = LIMIT) -> str:
    with pytest.raises(CorruptDeltaError) as caught:
        read(delta, max_bytes=max_bytes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def a_table(**columns: Any) -> BuiltDelta:
    """A Parquet delta of three valid rows, with the given columns replaced."""
    valid: dict[str, Any] = {
        "id": pa.array(["a", "b", "c"]),
        "embedding": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32())),
        "document": pa.array(["x", None, ""]),
        "metadata": pa.array(['{"n":1}', None, "{}"]),
    }
    return a_delta()._replace(body=parquet(pa.table({k: v for k, v in (valid | columns).items() if v is not None})))


def test_a_parquet_delta_is_read_as_rows_with_versions() -> None:
    name = a_uuid7()
    delta = read(
        a_delta({"a": [1, 2]}, {"b"}, documents={"a": "text"}, metadatas={"a": {"z": 1, "b": True}}, name=name)
    )

    vector = np.array([1, 2], dtype="<f4").tobytes()
    assert delta.collection == "docs"
    assert delta.dimension == 2
    assert delta.table.schema == run_schema(2)
    assert delta.table.to_pylist() == [
        {
            "id": "a",
            "delta": name.bytes,
            "row": 0,
            "deleted": False,
            "fingerprint": fingerprint(vector, "text", '{"b":true,"z":1}'),
            "embedding": [1.0, 2.0],
            "document": "text",
            "metadata": '{"b":true,"z":1}',
            "uri": None,
        },
        {
            "id": "b",
            "delta": name.bytes,
            "row": 1,
            "deleted": True,
            "fingerprint": DELETED,
            "embedding": None,
            "document": None,
            "metadata": None,
            "uri": None,
        },
    ]


def test_a_delta_with_very_many_metadata_values_is_an_error() -> None:
    rows = [{"id": str(row), "embedding": [1], "metadata": {"a": [1] * 50, "b": "x, y"}} for row in range(400)]

    assert reason_of(a_jsonl_delta(rows)).startswith(
        "its rows have 20,400 metadata values, more than the limit of 15,625"
    )
    read(a_jsonl_delta(rows[:300]))


def test_a_file_without_uris_has_no_column_for_them() -> None:
    rows = DeltaColumns(["a"], np.array([False]), np.array([[1.5]], dtype=np.float32), ["x"], [None], [None])

    assert "uri" not in pq.read_schema(pa.BufferReader(write_delta(rows, DeltaHeader()))).names


def test_json_lines_and_parquet_give_equal_rows() -> None:
    name = a_uuid7()
    lines = a_jsonl_delta(
        [
            {"id": "a", "embedding": [1, 2.5], "document": "text", "metadata": {"z": 1, "b": True}},
            {"id": "b", "op": "delete"},
            {
                "id": "c",
                "op": "upsert",
                "embedding": [0, 0],
                "document": None,
                "metadata": '{"n": [1, 2]}',
                "uri": "s3://c",
            },
        ],
        name=name,
    )
    table = a_table(
        op=pa.array([None, "delete", "upsert"]),
        embedding=pa.array([[1, 2.5], None, [0, 0]]),
        document=pa.array(["text", None, None]),
        metadata=pa.array(['{"z": 1, "b": true}', None, '{"n": [1, 2]}']),
        uri=pa.array([None, None, "s3://c"]),
    )

    assert read(lines).table.equals(read(table._replace(key=a_delta(name=name).key)).table)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.float64(), 2),
        pa.list_(pa.int64()),
    ],
    ids=str,
)
def test_embeddings_may_be_any_list_of_numbers(kind: pa.DataType) -> None:
    delta = read(a_table(embedding=pa.array([[1, 2], [3, 4], [5, 6]], kind)))

    assert delta.table["embedding"].to_pylist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_text_may_be_any_kind_of_string(kind: Any) -> None:
    delta = read(a_table(id=pa.array(["a", "b", "c"]).cast(kind), document=pa.array(["x", None, "x"]).cast(kind)))

    assert delta.table["id"].to_pylist() == ["a", "b", "c"]
    assert delta.table["document"].to_pylist() == ["x", None, "x"]


def test_fixed_size_lists_with_nulls_for_deletes_are_read() -> None:
    embeddings = pa.FixedSizeListArray.from_arrays(
        pa.array(np.arange(6, dtype=np.float32)), 2, mask=pa.array([False, True, False])
    )
    delta = read(a_table(op=pa.array(["upsert", "delete", "upsert"]), embedding=embeddings, metadata=None))

    assert delta.table["embedding"].to_pylist() == [[0, 1], None, [4, 5]]


def test_optional_columns_may_be_absent() -> None:
    delta = read(a_table(document=None, metadata=None))

    assert delta.table["document"].null_count == 3
    assert delta.table["deleted"].to_pylist() == [False] * 3


def test_a_file_of_many_row_groups_is_read_whole() -> None:
    table = pa.table({"id": [str(n) for n in range(100)], "embedding": [[float(n)] for n in range(100)]})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=7)

    assert read(a_delta()._replace(body=sink.getvalue())).table["embedding"].to_pylist() == [[n] for n in range(100)]


@pytest.mark.parametrize("delta", [a_delta(), a_jsonl_delta([])], ids=["parquet", "jsonl"])
def test_an_empty_delta_is_valid(delta: BuiltDelta) -> None:
    found = read(delta)

    assert found.table.num_rows == 0
    assert found.dimension is None


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"id": None}, "the column 'id' is missing"),
        ({"id": pa.array(["a", None, "c"])}, "row 1: id is missing"),
        ({"id": pa.array(["a", "b", ""])}, "row 2: id is empty"),
        ({"id": pa.array([1, 2, 3])}, "the column 'id' is of type int64; it must be a string"),
        ({"embeding": pa.array([1, 2, 3])}, "the column 'embeding' is unknown; use only id, op,"),
        ({"op": pa.array(["upsert", "del", "upsert"])}, "row 1 (id 'b'): op is 'del'; it must be 'upsert' or 'delete'"),
        ({"op": pa.array(["upsert", "upsert", "delete"])}, "row 2 (id 'c'): a delete carries nothing but its id"),
        ({"embedding": None}, "row 0 (id 'a'): an upsert needs an embedding"),
        ({"embedding": pa.array([[1.0], None, [1.0]])}, "row 1 (id 'b'): an upsert needs an embedding"),
        ({"embedding": pa.array([[1.0], [1.0], [1.0, 2.0]])}, "row 2 (id 'c'): embedding has 2 dimensions, but"),
        ({"embedding": pa.array([[], [], []], pa.list_(pa.float32()))}, "row 0 (id 'a'): embedding is empty"),
        ({"embedding": pa.array([[1.0], [None], [1.0]])}, "row 1 (id 'b'): embedding holds null"),
        ({"embedding": pa.array([[1.0], [1.0], [float("nan")]])}, "row 2 (id 'c'): embedding holds NaN"),
        ({"embedding": pa.array([[1.0], [float("-inf")], [1.0]])}, "row 1 (id 'b'): embedding holds infinity"),
        ({"embedding": pa.array([[1.0], [1e39], [1.0]])}, "row 1 (id 'b'): embedding holds 1e+39, beyond the range of"),
        ({"embedding": pa.array([["x"], ["y"], ["z"]])}, "the column 'embedding' is of type list<"),
        ({"embedding": pa.array([1.0, 2.0, 3.0])}, "the column 'embedding' is of type double"),
        ({"uri": pa.array([1, 2, 3])}, "the column 'uri' is of type int64"),
        ({"document": pa.array([1, 2, 3])}, "the column 'document' is of type int64"),
        ({"metadata": pa.array([None, '{"a":{"b":1}}', None])}, "row 1 (id 'b'): metadata key 'a' holds an object"),
        ({"metadata": pa.array([{"a": 1}] * 3)}, "the column 'metadata' is of type struct"),
    ],
)
def test_the_reason_against_a_table_names_row_and_id(columns: dict[str, Any], reason: str) -> None:
    assert reason_of(a_table(**columns)).startswith(reason)


def test_text_that_is_not_utf8_is_an_error() -> None:
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 1], np.int32).tobytes()), pa.py_buffer(b"\xff"))

    assert "Invalid UTF8" in reason_of(a_delta()._replace(body=parquet(pa.table({"id": broken, "embedding": [[1.0]]}))))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "row 1: the line is not a JSON object"),
        ('{"id"', "row 1: the line is not JSON: "),
        ('{"id":"x","embedding":[1,2],"id":"y"}', "row 1: the line has the key 'id' twice"),
        ('{"id":5,"embedding":[1,2]}', "row 1: id is a number, not a string"),
        ('{"embedding":[1,2]}', "row 1: id is missing"),
        ('{"id":"x","embedding":[1,2],"meta":{}}', "row 1 (id 'x'): the name 'meta' is unknown"),
        ('{"id":"x","embedding":[1,NaN]}', "row 1 (id 'x'): embedding holds NaN"),
        ('{"id":"x","embedding":[1,2,3]}', "row 1 (id 'x'): embedding has 3 dimensions, but that of row 0 has 2"),
        ('{"id":"x"}', "row 1 (id 'x'): an upsert needs an embedding"),
        ('{"id":"x","op":"delete","metadata":{"a":1}}', "row 1 (id 'x'): a delete carries nothing but its id"),
        ('{"id":"x","op":["upsert"],"embedding":[1,2]}', "row 1 (id 'x'): op is ['upsert']; it must be"),
        (
            '{"id":"x","embedding":[1,2],"metadata":{"a":18446744073709551616}}',
            "row 1 (id 'x'): metadata key 'a' holds",
        ),
        ('{"id":"x","embedding":' + "[" * 900 + "]" * 900 + "}", "row 1"),
    ],
)
def test_the_reason_against_a_line_names_row_and_id(line: str, reason: str) -> None:
    body = gzip.compress(('{"id":"a","embedding":[1,2]}\n' + line).encode())

    assert reason_of(a_jsonl_delta([])._replace(body=body)).startswith(reason)


def test_blank_lines_are_skipped() -> None:
    body = gzip.compress(b'\n{"id":"a","embedding":[1]}\r\n\n \n{"id":"b","op":"delete"}')

    assert read(a_jsonl_delta([])._replace(body=body)).table["id"].to_pylist() == ["a", "b"]


def test_gzip_of_several_members_is_one_file() -> None:
    one, other = (a_jsonl_delta([{"id": name, "op": "delete"}]) for name in "ab")

    assert read(one._replace(body=one.body + b"\0\0" + other.body)).table["id"].to_pylist() == ["a", "b"]


def test_gzip_of_many_empty_members_is_read_in_linear_time() -> None:
    body = gzip.compress(b"") * 400_000
    started = time.process_time()

    assert read(a_jsonl_delta([])._replace(body=body)).table.num_rows == 0
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: b"", "it is empty"),
        (lambda body: body[:-1], "ends too early"),
        (lambda body: body[:-20], "ends too early"),
        (lambda body: b"{}", "is not gzip"),
        (lambda body: body + b"more", "is not gzip"),
        (lambda body: body[:-8] + b"\0" * 8, "is not gzip, or it is damaged"),
    ],
)
def test_damaged_gzip_is_an_error(change: Any, reason: str) -> None:
    whole = a_jsonl_delta([{"id": str(n), "embedding": [n]} for n in range(50)])

    assert reason in reason_of(whole._replace(body=change(whole.body)))


@pytest.mark.parametrize("change", [lambda b: b"", lambda b: b[:-9], lambda b: b[: len(b) // 2], lambda b: b"no" * 99])
def test_damaged_parquet_is_an_error(change: Any) -> None:
    whole = a_delta({str(n): [n] for n in range(50)})

    assert "is not Parquet, or it is damaged or cut off" in reason_of(whole._replace(body=change(whole.body)))


WHOLE = a_delta({str(n): [n, 1] for n in range(20)}, documents={"1": "x" * 50}, metadatas={"2": {"a": 1}})


@example(817, b"\x00")  # a row group with fewer columns than the schema
@given(st.integers(0, len(WHOLE.body) - 1), st.binary(min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_damage_never_raises_an_unexpected_error(at: int, bits: bytes) -> None:
    body = WHOLE.body[:at] + bits + WHOLE.body[at + len(bits) :]
    with contextlib.suppress(CorruptDeltaError):
        read(WHOLE._replace(body=body))


def test_a_changed_byte_in_a_written_vector_is_found() -> None:
    rows = DeltaColumns(["a"], np.array([False]), np.array([[1.5, 2.5]], dtype=np.float32), [None], [None], [None])
    body = write_delta(rows, DeltaHeader())
    at = body.index(np.float32(2.5).tobytes())

    assert "damaged" in reason_of(a_delta()._replace(body=body[:at] + b"\x01" + body[at + 1 :]))


def test_a_lack_of_memory_does_not_quarantine_a_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_args: object, **_options: object) -> None:
        raise pa.ArrowMemoryError("malloc failed")

    monkeypatch.setattr(pq, "ParquetFile", exhausted)
    with pytest.raises(MemoryError):
        read(a_delta({"a": [1]}))


@pytest.mark.parametrize(
    "delta",
    [
        a_jsonl_delta([])._replace(body=gzip.compress(b"\n" * (LIMIT + 1))),
        a_table(id=pa.array(["a", "b", "c"]), document=pa.array(["x" * LIMIT, None, None])),
        a_delta()._replace(body=parquet(pa.table({"id": ["x" * 20_000] * 100}))),
        a_delta()._replace(body=parquet(pa.table({"id": ["a"], "embedding": [[0.0] * LIMIT]}))),
        a_delta()._replace(body=parquet(pa.table({"id": pa.array([None] * LIMIT, pa.string())}))),
        a_jsonl_delta([])._replace(body=gzip.compress(b'{"id":"a","op":"delete"}\n' * (LIMIT // 40))),
    ],
    ids=["gzip", "long text", "one text many times", "long vector", "many rows", "many lines"],
)
def test_a_small_file_that_unpacks_to_a_huge_one_is_an_error(delta: BuiltDelta) -> None:
    assert len(delta.body) < LIMIT / 10 or "document" in str(delta.body[-2000:])
    assert "unpacks to" in reason_of(delta)


def test_a_repeated_text_in_the_embedding_column_is_an_error_before_it_is_expanded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(pq, "ParquetFile")

    assert "is of type list<" in reason_of(a_table(embedding=pa.array([["x" * 1000] * 900, None, None])))


def test_skipping_blank_lines_takes_no_memory() -> None:
    delta = a_jsonl_delta([])._replace(body=gzip.compress(b"\n" * LIMIT))
    tracemalloc.start()
    try:
        assert read(delta).table.num_rows == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 * LIMIT


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("delta/docs/notes.parquet", "is not a UUIDv7"),
        (f"delta/docs/{a_uuid7()}.csv", "does not have the form"),
        (f"delta/docs/{a_uuid7(NOW + 3700)}.parquet", "ahead of S3's clock"),
        (f"delta/d!/{a_uuid7()}.parquet", "breaks the rule"),
    ],
    ids=["not a UUIDv7", "unknown suffix", "from the future", "invalid collection name"],
)
def test_an_invalid_key_is_an_error(key: str, reason: str) -> None:
    assert reason in reason_of(a_delta({"a": [1]})._replace(key=key))


def test_a_header_shapes_the_collection() -> None:
    header = {"format": 1, "space": "cosine", "embedding_function": "wordllama", "producer": "demo"}

    assert read(a_delta({"a": [1]}, header=header)).header == DeltaHeader.model_validate(header)


def test_without_a_header_the_defaults_apply() -> None:
    assert read(a_delta({"a": [1]})).header == DeltaHeader()


@pytest.mark.parametrize(
    ("header", "field"),
    [({"format": 0}, "'format'"), ({"space": "L2"}, "'space'"), ({"spcae": "l2"}, "'spcae'"), (["l2"], "the header:")],
)
def test_an_invalid_header_is_an_error_naming_the_field(header: Any, field: str) -> None:
    reason = reason_of(a_delta({"a": [1]}, header=header))

    assert reason.startswith("its header 'chromadb_compaction' is invalid")
    assert field in reason


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=3), st.booleans(), st.one_of(st.none(), st.text(max_size=4))), max_size=8
    )
)
def test_written_rows_are_read_back(rows: list[tuple[str, bool, str | None]]) -> None:
    deleted = np.array([is_delete for _, is_delete, _ in rows], dtype=np.bool_)
    count = int((~deleted).sum())
    columns = DeltaColumns(
        ids=[row_id for row_id, _, _ in rows],
        deleted=deleted,
        vectors=np.arange(3 * count, dtype=np.float32).reshape(count, 3) if count else np.empty((0, 0), np.float32),
        documents=[None if is_delete else document for _, is_delete, document in rows],
        metadatas=[None if is_delete else json.dumps({"n": n}) for n, (_, is_delete, _) in enumerate(rows)],
        uris=[None if is_delete else document for _, is_delete, document in rows],
    )
    header = DeltaHeader(space="ip", producer="test")

    found = read(a_delta()._replace(body=write_delta(columns, header)))

    assert found.header == header
    assert found.table["id"].to_pylist() == columns.ids
    assert found.table["deleted"].to_pylist() == deleted.tolist()
    assert found.table["document"].to_pylist() == columns.documents
    assert found.table["uri"].to_pylist() == columns.uris
    vectors = found.table["embedding"].drop_null().to_pylist()
    assert vectors == columns.vectors.tolist()
