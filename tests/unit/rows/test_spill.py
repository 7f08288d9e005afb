"""Merging of more rows than fit in memory: bounded memory, and an error if the disk is too small."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from chromadb_compaction.errors import SnapshotTooLargeError
from chromadb_compaction.rows import runs
from chromadb_compaction.rows.runs import RunWriter, cut
from chromadb_compaction.rows.spill import SpillingMerge
from tests.runs import a_run, decode_run, encode_run

KIBIBYTE = 1024


class Disk(NamedTuple):
    free: int


def a_wide_run(delta: int, rows: int = 100) -> pa.Table:
    """About a kibibyte a row; the ids are spread over those of other deltas."""
    ids = [f"{row:06d}-{delta % 7}" for row in range(rows)]
    return a_run({key: [float(delta)] for key in ids}, documents=dict.fromkeys(ids, "x" * KIBIBYTE), delta=delta)


@contextmanager
def arrow_memory() -> Iterator[Any]:
    """Count what Arrow allocates within the block."""
    usual = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counting)
    try:
        yield counting
    finally:
        pa.set_memory_pool(usual)


def peak_of_merging(deltas: int, directory: Path) -> int:
    directory.mkdir()
    with arrow_memory() as memory:
        merge = SpillingMerge(directory, held_bytes=256 * KIBIBYTE, piece_bytes=8 * KIBIBYTE)
        for delta in range(deltas):
            merge.add(a_wide_run(delta))
        merge.write(directory / "run.parquet")
        peak: int = memory.max_memory()
    return peak


def test_ten_times_the_rows_take_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "ROW_GROUP_BYTES", 64 * KIBIBYTE)

    few, many = peak_of_merging(10, tmp_path / "few"), peak_of_merging(100, tmp_path / "many")

    assert many < 1.5 * few


def test_rows_that_fit_in_memory_are_not_spilled(tmp_path: Path) -> None:
    merge = SpillingMerge(tmp_path)
    for delta in range(3):
        merge.add(a_wide_run(delta))

    assert list(tmp_path.iterdir()) == []


def test_the_error_about_a_small_disk_names_the_setting_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Disk(free=150_000))
    merge = SpillingMerge(tmp_path, held_bytes=1)

    with pytest.raises(SnapshotTooLargeError, match=r"150,000 are free; raise merge-batch's ephemeral storage"):
        merge.add(a_wide_run(1))


def test_vectors_of_two_lengths_are_an_error_even_after_a_spill(tmp_path: Path) -> None:
    merge = SpillingMerge(tmp_path, held_bytes=1)
    merge.add(a_run({"a": [1, 1]}))

    with pytest.raises(ValueError, match=r"dimensions \[2, 3\]"):
        merge.add(a_run({"b": [1, 1, 1]}))


def test_deletes_spilled_before_the_first_vector_fit_the_run(tmp_path: Path) -> None:
    merge = SpillingMerge(tmp_path, held_bytes=1)
    merge.add(a_run(deletes={"a", "b"}, delta=1))
    merge.add(a_run({"b": [1, 2]}, delta=2))

    merge.write(tmp_path / "run.parquet")

    assert decode_run((tmp_path / "run.parquet").read_bytes()).select(["id", "embedding"]).to_pylist() == [
        {"id": "a", "embedding": None},
        {"id": "b", "embedding": [1, 2]},
    ]


def test_a_run_has_the_same_bytes_for_any_number_of_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "ROW_GROUP_BYTES", 20 * KIBIBYTE)
    whole = a_wide_run(1)
    sink = io.BytesIO()
    with RunWriter(sink, 1) as writer:
        for start in range(0, whole.num_rows, 7):
            writer.write(whole.slice(start, 7))

    assert sink.getvalue() == encode_run(whole)


def test_pieces_are_as_large_as_both_limits_allow() -> None:
    rows = a_wide_run(1, rows=10)

    assert [piece.num_rows for piece in cut(rows, max_bytes=3500, max_rows=100)] == [3, 3, 3, 1]
    assert [piece.num_rows for piece in cut(rows, max_bytes=10**6, max_rows=4)] == [4, 4, 2]


def test_a_row_larger_than_a_piece_is_its_own_piece() -> None:
    assert [piece.num_rows for piece in cut(a_wide_run(1, rows=3), max_bytes=1, max_rows=100)] == [1, 1, 1]


def test_no_rows_give_one_empty_piece() -> None:
    assert [piece.num_rows for piece in cut(a_run(), max_bytes=1, max_rows=1)] == [0]
