"""Invalid deltas go to quarantine whole, with a readable reason. The valid deltas beside them are merged."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chromadb_compaction.cli.views.overview import read_overview
from chromadb_compaction.layout import quarantine_key, reason_key
from tests.e2e.conftest import DeployStack
from tests.e2e.model import Delta, Row, expected, published
from tests.stack import Stack

pytestmark = pytest.mark.e2e


def invalid_deltas() -> dict[str, tuple[str, bytes, str]]:
    """Return name -> (key, body, words that its reason must contain)."""
    nan = Delta("docs", (Row("x", (float("nan"), 1.0)),))
    wide = Delta("docs", (Row("x", (1.0, 2.0, 3.0)),))
    whole = Delta("docs", (Row("x", (1.0, 2.0)),))
    nested = Delta("docs", (Row("x", (1.0, 2.0), None, {"deep": {"er": 1}}),))
    foreign = Delta("docs", ())
    return {
        "nan": (nan.key, nan.body(), "NaN"),
        "dimension": (wide.key, wide.body(), "dimension"),
        "truncated": (whole.key, whole.body()[:-20], "Parquet"),
        "nested": (nested.key, nested.body(), "deep"),
        "foreign": (foreign.key, b"this is not a Parquet file", "Parquet"),
    }


def valid_deltas(count: int) -> list[Delta]:
    return [Delta("docs", (Row(f"id-{n}", (float(n), 1.0), f"text {n}"),)) for n in range(count)]


def test_five_invalid_deltas_go_to_quarantine_and_99_valid_ones_are_merged(stack: Stack, tmp_path: Path) -> None:
    valid, invalid = valid_deltas(99), invalid_deltas()
    stack.put_objects({delta.key: delta.body() for delta in valid})
    stack.put_objects({key: body for key, body, _ in invalid.values()})

    assert stack.compact().status == "SUCCEEDED"

    assert published(stack.s3, stack.bucket, tmp_path) == expected(valid)
    for name, (key, body, words) in invalid.items():
        moved = key.replace("delta/", "quarantine/")
        assert stack.get(moved) == body, name
        reason = json.loads(stack.get(reason_key(moved)))["reason"]
        assert words in reason, (name, reason)
    assert stack.keys("delta/") == []
    messages = stack.dead_letters()
    assert {message["key"] for message in messages} == {key for key, _, _ in invalid.values()}
    assert all(message["reason"] for message in messages)


def test_deltas_whose_names_cannot_order_updates_go_to_quarantine(stack: Stack) -> None:
    body = Delta("docs", (Row("x", (1.0, 2.0)),)).body()
    future = "0fffffff-ffff-7000-8000-000000000000"
    keys = [
        "delta/docs/not-a-uuid.parquet",
        f"delta/docs/{future}.parquet",
        "delta/a/b/c.parquet",
        "delta/docs/notes.txt",
    ]
    stack.put_objects(dict.fromkeys(keys, body))

    assert stack.compact().status == "SUCCEEDED"

    assert stack.keys("delta/") == []
    assert {key.replace("delta/", "quarantine/") for key in keys} <= set(stack.keys("quarantine/"))
    assert "snapshot/CURRENT" not in stack.keys("snapshot/")


def test_hostile_keys_go_to_quarantine_with_a_reason_and_stop_no_other_delta(stack: Stack, tmp_path: Path) -> None:
    valid, body = valid_deltas(1), Delta("docs", (Row("x", (1.0, 2.0)),)).body()
    names = [
        "../../snapshot/CURRENT",
        "%2e%2e/%2e%2e/CURRENT",
        "docs/./x.parquet",
        "d\N{CYRILLIC SMALL LETTER O}cs/x.parquet",
    ]
    names += ["d" * (1024 - len("delta/")), "docs/" + "é" * 500, "docs/x.reason.json", "x" * 300 + "/x.parquet"]
    keys = [f"delta/{name}" for name in names]
    stack.put_objects(dict.fromkeys(keys, body) | {delta.key: delta.body() for delta in valid})

    assert stack.compact().status == "SUCCEEDED"

    assert published(stack.s3, stack.bucket, tmp_path) == expected(valid)
    assert stack.keys("delta/") == []
    kept = set(stack.keys("quarantine/"))
    assert {quarantine_key(key) for key in keys} <= kept
    assert {json.loads(stack.get(reason_key(quarantine_key(key))))["delta"] for key in keys} == set(keys)


def test_keys_that_xml_cannot_hold_are_refused_and_stop_nobody(deploy: DeployStack, tmp_path: Path) -> None:
    # Its own stack: the local server cannot list the versions of such keys, so that it could not be emptied.
    stack = deploy(config={"compactionBatchSize": "7"})
    valid = valid_deltas(2)
    keys = [f"delta/{name}" for name in ("docs/\x01.parquet", "\x1fdocs/x", "docs/\ufffe", "docs/return\r.parquet")]
    stack.put_objects(dict.fromkeys(keys, b"x"))
    for delta in valid:
        stack.put_objects({delta.key: delta.body()})

        assert stack.compact().status == "SUCCEEDED"

    assert published(stack.s3, stack.bucket, tmp_path) == expected(valid)
    assert stack.keys("delta/") == []
    assert {quarantine_key(key) for key in keys} <= set(stack.keys("quarantine/"))


def test_an_unreadable_object_stays_pending_is_named_and_merged_once_it_is_readable(
    stack: Stack, tmp_path: Path
) -> None:
    odd, *good = valid_deltas(3)
    stack.s3.put_object(Bucket=stack.bucket, Key=odd.key, Body=odd.body(), StorageClass="GLACIER")
    for delta in good:
        stack.put_objects({delta.key: delta.body()})

        result = stack.compact()

        assert result.status == "SUCCEEDED"
        assert stack.keys("delta/") == [odd.key]
    assert result.output["snapshot"]["deltas_unreadable"] == 1
    assert result.output["work"]["set_aside"] == 1
    assert published(stack.s3, stack.bucket, tmp_path / "without") == expected(good)
    pending = read_overview(stack.services(cache_dir=tmp_path), stack.sfn).pending
    assert pending is not None
    assert [(each.delta, "restore" in each.reason) for each in pending.latest] == [(odd.key, True)]

    stack.put_objects({odd.key: odd.body()})
    stack.compact()

    assert published(stack.s3, stack.bucket, tmp_path / "with") == expected([odd, *good])
    assert stack.keys("delta/") == []


def test_deltas_are_merged_and_refused_ones_moved_without_any_queue(deploy: DeployStack, tmp_path: Path) -> None:
    gone = dict.fromkeys(("DELTA_QUEUE_URL", "DELTA_DLQ_URL"), "http://127.0.0.1/000000000000/deleted")
    stack = deploy(environment=gone)
    good, bad = valid_deltas(2), invalid_deltas()["nan"]
    for delta in good:
        stack.put_objects({delta.key: delta.body(), bad[0]: bad[1]})

        result = stack.compact()

        assert result.status == "SUCCEEDED"
        assert result.output["clean_up"]["queue_error"]
        assert stack.keys("delta/") == []
    assert published(stack.s3, stack.bucket, tmp_path) == expected(good)
    assert bad[0].replace("delta/", "quarantine/") in stack.keys("quarantine/")


def test_deltas_written_with_pyarrow_and_boto3_alone_are_merged(stack: Stack, tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["one", "two"],
            "embedding": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
            "document": ["first", None],
            "metadata": ['{"page": 3}', None],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    stack.put_objects({Delta("docs", ()).key: buffer.getvalue()})

    stack.compact()

    assert published(stack.s3, stack.bucket, tmp_path) == {
        "docs": {"one": ((1.0, 2.0), "first", {"page": 3}), "two": ((3.0, 4.0), None, None)}
    }
