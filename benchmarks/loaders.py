"""Compare the chosen loader with ChromaDB's API in folds without AWS: seconds, memory, bytes and recall."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import quality
from benchmarks.folds import LoaderName, MeasuredFold, measure, write_run
from benchmarks.memory import allowed_mebibytes
from benchmarks.references import BulkUpsert
from benchmarks.report import Reference, Row
from benchmarks.workload import Load, first_round, second_round
from chromadb_compaction.settings import MEBIBYTE

FOLD_LIMIT = 0.36
"""The most seconds of a fold into an empty collection, as a ratio to one bulk upsert."""
UPDATE_LIMIT = 0.30
"""The most seconds of a fold of half updates, as a ratio to the API loader."""
IDENTICAL_LIMIT = 0.1
"""The most seconds of a fold that changes nothing, as a ratio to one bulk upsert."""
BYTES_LIMIT = 1.15
"""The most bytes of a directory, as a ratio to a new directory of the same live records."""
LOST_RECALL = 0.01
"""The most recall that may be lost, compared with the API loader."""
REPETITIONS = 5
"""The number of times each fold and its reference are measured, in turn. The median counts."""

_BOTH: tuple[LoaderName, LoaderName] = ("default", "api")


class _Repetition(NamedTuple):
    """One repetition: each fold, by its loader, and the bulk upsert."""

    bulk: BulkUpsert
    empty: dict[LoaderName, MeasuredFold]
    half: dict[LoaderName, MeasuredFold]
    same: MeasuredFold


def fold_rows(load: Load, bulk: Callable[[], BulkUpsert]) -> list[Row]:
    """Measure folds of each kind. `bulk` upserts the first round in bulk."""
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        directory = Path(name)
        write_run(directory / "first", first_round(load))
        write_run(directory / "second", second_round(load), first=load.deltas)
        write_run(directory / "again", first_round(load), first=2 * load.deltas)
        repetitions = [_repetition(directory, load.dimension, bulk()) for _ in range(REPETITIONS)]
        fresh = measure(directory / "fresh", _live(directory, load), load.dimension, loader="api")
    upserted = _repeated("bulk", [each.bulk.seconds for each in repetitions])
    upserting = _repeated("bulk", [each.bulk.processor for each in repetitions])
    empties = {loader: [each.empty[loader] for each in repetitions] for loader in _BOTH}
    halves = {loader: [each.half[loader] for each in repetitions] for loader in _BOTH}
    sames = [each.same for each in repetitions]
    empty, half = ({loader: median_fold(folds[loader]) for loader in _BOTH} for folds in (empties, halves))
    empty_api, half_api = (_repeated("api", [fold.unverified for fold in each["api"]]) for each in (empties, halves))
    records = load.records, load.records + load.deltas * (load.rows - load.rows // 2)
    return [
        _repeated_seconds_row("fold into empty", empties["default"], [_limited(upserted, FOLD_LIMIT), empty_api]),
        _processor("fold into empty", empties, [upserting]),
        _index("  its index", empty["default"], upserted),
        *_size(empty, empty["api"], records[0] * load.dimension),
        _repeated_seconds_row("fold of half updates", halves["default"], [_limited(half_api, UPDATE_LIMIT)]),
        _processor("fold of half updates", halves, []),
        _index("  its index", half["default"], half_api),
        *_size(half, fresh, records[1] * load.dimension),
        _repeated_seconds_row("fold of identical rows", sames, [_limited(upserted, IDENTICAL_LIMIT)]),
    ]


def _repetition(directory: Path, dimension: int, bulk: BulkUpsert) -> _Repetition:
    empty, half = (
        {
            each: measure(directory / f"{kind}-{each}", directory / run, dimension, base=base, loader=each)
            for each in _BOTH
        }
        for kind, run, base in (("empty", "first", None), ("half", "second", directory / "empty-api"))
    )
    same = measure(directory / "same", directory / "again", dimension, base=directory / "empty-default")
    return _Repetition(bulk, empty, half, same)


def median_fold(folds: Iterable[MeasuredFold]) -> MeasuredFold:
    """Return the fold with the median seconds, with the greatest peak memory of all folds."""
    by_seconds = sorted(folds, key=lambda fold: fold.unverified)
    return by_seconds[len(by_seconds) // 2]._replace(peak_mebibytes=max(fold.peak_mebibytes for fold in by_seconds))


def _limited(reference: Reference, limit: float) -> Reference:
    return reference.model_copy(update={"limit": limit})


def api_seconds(fold: MeasuredFold) -> Reference:
    """Return the seconds of the API loader's fold as a reference for `seconds_row`."""
    return Reference(name="api", value=fold.unverified)


def api_processor(fold: MeasuredFold) -> Reference:
    """Return the processor seconds of the API loader's fold as a reference for `processor_row`."""
    return Reference(name="api", value=fold.processor)


def seconds_row(part: str, fold: MeasuredFold, references: list[Reference]) -> Row:
    """Return a row of the wall seconds without verification, which no reference does."""
    return Row(part=part, what="seconds, unverified", value=fold.unverified, unit="s", references=references)


def _repeated_seconds_row(part: str, folds: Sequence[MeasuredFold], references: list[Reference]) -> Row:
    row = seconds_row(part, median_fold(folds), references)
    return row.model_copy(update={"repeated": [fold.unverified for fold in folds]})


def processor_row(part: str, fold: MeasuredFold, references: list[Reference]) -> Row:
    """Return a row of the processor seconds. They depend less than seconds on what else the machine does."""
    return Row(part=part, what="processor, verified", value=fold.processor, unit="s", references=references)


def _processor(part: str, folds: dict[LoaderName, list[MeasuredFold]], references: list[Reference]) -> Row:
    ours, api = ([fold.processor for fold in folds[loader]] for loader in _BOTH)
    row = processor_row(part, median_fold(folds["default"]), [*references, _repeated("api", api)])
    return row.model_copy(update={"value": median(ours), "repeated": ours})


def _repeated(name: str, measured: list[float]) -> Reference:
    return Reference(name=name, value=median(measured), repeated=measured)


def _index(part: str, fold: MeasuredFold, reference: Reference) -> Row:
    """Return the seconds of queueing the vectors and building the index. Records are written at the same time."""
    return Row(part=part, what="seconds", value=fold.phases["load.index"], unit="s", references=[reference])


def _size(folds: dict[LoaderName, MeasuredFold], fresh: MeasuredFold, values: int) -> list[Row]:
    allowed = allowed_mebibytes(values)
    fold = folds["default"]
    peak = Reference(name="api", value=folds["api"].peak_mebibytes)
    directory = Reference(name="api", value=fresh.bytes / MEBIBYTE, limit=BYTES_LIMIT)
    part = "  its size"
    return [
        Row(part=part, what="peak memory", value=fold.peak_mebibytes, unit="MiB", references=[peak], limit=allowed),
        Row(part=part, what="directory", value=fold.bytes / MEBIBYTE, unit="MiB", references=[directory]),
    ]


def _live(directory: Path, load: Load) -> Path:
    """Write a run of the records that exist after both rounds."""
    return write_run(directory / "live", [*first_round(load), *second_round(load)])


def recall_rows() -> list[Row]:
    """Measure the share of neighbours that each loader's index misses: of new records, and after half were replaced."""
    old = quality.clustered()
    new = quality.updated(old)
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        directory = Path(name)
        first, second = write_run(directory / "first", [old]), write_run(directory / "second", [new], first=1)
        rows = []
        for what, run, base, records in (
            ("new records", first, None, old),
            ("half replaced", second, directory / "default", quality.merged(old, new)),
        ):
            lost: dict[LoaderName, float] = {}
            for loader in reversed(_BOTH):
                folded = directory / (loader if base is None else f"half-{loader}")
                measure(folded, run, quality.DIMENSION, base=base, loader=loader)
                lost[loader] = 100 * quality.missed(folded / "chroma", records)
            rows.append(
                Row(
                    part=f"missed of the {quality.NEIGHBOURS} nearest",
                    what=what,
                    value=lost["default"],
                    unit="%",
                    references=[Reference(name="api", value=lost["api"])],
                    limit=lost["api"] + 100 * LOST_RECALL,
                )
            )
    return rows
