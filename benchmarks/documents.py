"""Measure the bytes of directories by the lengths of their documents, beside those that ChromaDB's API writes."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from benchmarks.folds import LoaderName, MeasuredFold, measure, write_run
from benchmarks.loaders import BYTES_LIMIT, REPETITIONS
from benchmarks.report import Reference, Row
from benchmarks.workload import Records, records
from chromadb_compaction.settings import MEBIBYTE

DOCUMENTS: Final = 4000
MEAN_BYTES: Final = (300, 1000, 2000, 4000)
MANY: Final = 20_000
BYTES: Final = 1000
MANY_LIMIT: Final = 0.72
"""The most bytes of MANY records with documents of BYTES, as a ratio to those with ChromaDB's pages."""
UPDATED: Final = 0.05
"""The share of these records that a fold replaces."""


def document_rows(dimension: int) -> list[Row]:
    """Measure DOCUMENTS records by the mean length of their documents, and MANY records with documents of one length.

    Lengths vary by half around a mean.
    """
    rng = np.random.default_rng(4)
    rows = []
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        directory = Path(name)
        for mean in MEAN_BYTES:
            lengths = rng.integers(mean // 2, mean * 3 // 2, DOCUMENTS).tolist()
            run = write_run(directory / "run", [_with_documents(rng, list(range(DOCUMENTS)), lengths, dimension)])
            rows.append(_bytes_row(f"documents of {mean:,} bytes", directory, run, dimension, BYTES_LIMIT))
        run = write_run(directory / "run", [_with_documents(rng, list(range(MANY)), [BYTES] * MANY, dimension)])
        part = f"{MANY:,} documents of {BYTES:,} bytes"
        return [
            *rows,
            _bytes_row(part, directory, run, dimension, MANY_LIMIT),
            *_update_rows(directory, run, dimension),
        ]


def _bytes_row(part: str, directory: Path, run: Path, dimension: int, limit: float) -> Row:
    loaders: tuple[LoaderName, LoaderName] = ("default", "api")
    ours, api = (measure(directory / each, run, dimension, loader=each).bytes / MEBIBYTE for each in loaders)
    reference = Reference(name="api", value=api, limit=limit)
    return Row(part=part, what="directory", value=ours, unit="MiB", references=[reference])


def _update_rows(directory: Path, run: Path, dimension: int) -> list[Row]:
    """Measure a fold that replaces UPDATED of the records, in turn with the same fold with pages of 4 KiB."""
    measure(directory / "small pages", run, dimension, loader="small pages")
    rng = np.random.default_rng(5)
    changed = sorted(rng.choice(MANY, int(UPDATED * MANY), replace=False).tolist())
    updates = _with_documents(rng, changed, [BYTES] * len(changed), dimension)
    update = write_run(directory / "update", [updates], first=1)
    bases: tuple[LoaderName, LoaderName] = ("default", "small pages")
    folds: dict[LoaderName, list[MeasuredFold]] = {each: [] for each in bases}
    for _ in range(REPETITIONS):
        for each in bases:
            folded = measure(directory / "updated", update, dimension, base=directory / each, loader=each)
            folds[each].append(folded)
    part = f"  fold of {UPDATED:.0%} updates"
    return [
        _compared(part, "seconds, unverified", *([fold.unverified for fold in folds[each]] for each in bases)),
        _compared(part, "processor, verified", *([fold.processor for fold in folds[each]] for each in bases)),
        _compared(part, "directory", *([fold.bytes / MEBIBYTE for fold in folds[each]] for each in bases), unit="MiB"),
    ]


def _compared(part: str, what: str, ours: list[float], small: list[float], *, unit: str = "s") -> Row:
    """Return a row of repeated measurements, with those of small pages as its reference."""
    reference = Reference(name="without", value=median(small), repeated=small)
    return Row(part=part, what=what, value=median(ours), unit=unit, references=[reference], repeated=ours)


def _with_documents(rng: np.random.Generator, numbers: list[int], lengths: list[int], dimension: int) -> Records:
    new = records(dimension, seed=len(numbers) + lengths[0], ids=[f"row-{number:05d}" for number in numbers])
    text = " ".join(new.documents[:DOCUMENTS])
    starts = rng.integers(0, len(text) - max(lengths), len(lengths)).tolist()
    return new._replace(documents=[text[start : start + length] for start, length in zip(starts, lengths, strict=True)])
