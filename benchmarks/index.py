"""Measure one fold's index with one thread and with two, and folds that replace few vectors."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.folds import LoaderName, MeasuredFold, measure, write_run
from benchmarks.loaders import REPETITIONS, api_processor, api_seconds, median_fold, processor_row, seconds_row
from benchmarks.report import Row
from benchmarks.workload import Load, Records, first_round, vectors_like_those_of_texts

THREADS = (1, 2)
REPLACED_SHARE = 20
"""One of this many vectors is replaced."""


def index_rows(load: Load) -> list[Row]:
    """Return the time of the index of one round by threads, and that of a fold that replaces a few of its vectors."""
    parts = list(first_round(load))
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        directory = Path(name)
        base = directory / "base"
        first = write_run(directory / "first", parts)
        replaced = write_run(directory / "replaced", [_replaced(parts, load)], first=load.deltas)
        folds: dict[int, list[MeasuredFold]] = {threads: [] for threads in THREADS}
        updates: dict[LoaderName, list[MeasuredFold]] = {"default": [], "api": []}
        for _ in range(REPETITIONS):
            for threads, measured in folds.items():
                measured.append(measure(base, first, load.dimension, threads=threads))
            for loader, repeated in updates.items():
                repeated.append(measure(directory / loader, replaced, load.dimension, base=base, loader=loader))
    few, api = (median_fold(repeated) for repeated in updates.values())
    return [
        *(row for threads, measured in folds.items() for row in _threads(threads, median_fold(measured))),
        seconds_row("fold of 5 % replaced", few, [api_seconds(api)]),
        processor_row("fold of 5 % replaced", few, [api_processor(api)]),
    ]


def _threads(threads: int, fold: MeasuredFold) -> list[Row]:
    part = f"threads of the index: {threads}"
    return [
        Row(part=part, what="its seconds", value=fold.phases["load.index"], unit="s"),
        processor_row(part, fold, []),
    ]


def _replaced(parts: list[Records], load: Load) -> Records:
    count = load.records // REPLACED_SHARE
    ids = [row_id for part in parts for row_id in part.ids][::REPLACED_SHARE][:count]
    vectors = vectors_like_those_of_texts(np.random.default_rng(1), count, load.dimension)
    return Records(ids, vectors, ["replaced"] * count, [{"replaced": True}] * count)
