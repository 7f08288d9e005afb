"""Folds alone, without AWS: the loader that is chosen beside ChromaDB's API, in seconds, memory, bytes and recall."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import quality
from benchmarks.folds import Fold, LoaderName, measure, write_run
from benchmarks.memory import MEBIBYTE, allowed_mebibytes
from benchmarks.report import Reference, Row
from benchmarks.workload import Load, first_round, second_round

FOLD_LIMIT = 0.40
"""Of the time of one bulk upsert."""
UPDATE_LIMIT = 0.6
"""Of the API loader's time."""
IDENTICAL_LIMIT = 0.1
BYTES_LIMIT = 1.15
"""Of the bytes of a directory made fresh from the same live records."""
LOST_RECALL = 0.01
REPETITIONS = 3
"""How often each fold is measured, in turn with what it is held against; the median counts."""


class _Folds(NamedTuple):
    """One repetition: each fold, by the loader that did it."""

    bulk: float
    empty: dict[LoaderName, Fold]
    half: dict[LoaderName, Fold]
    same: Fold


def fold_rows(load: Load, bulk: Callable[[], float]) -> list[Row]:
    """Measure folds of each kind. `bulk` upserts the first round in bulk, and returns the seconds."""
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        place = Path(name)
        write_run(place / "first", first_round(load))
        write_run(place / "second", second_round(load), first=load.deltas)
        write_run(place / "again", first_round(load), first=2 * load.deltas)
        repeated = [_fold_all(place, load.dimension, bulk()) for _ in range(REPETITIONS)]
        fresh = measure(place / "fresh", _live(place, load), load.dimension, loader="api")
    upserted = Reference(name="bulk", value=median(each.bulk for each in repeated))
    empty = {loader: _median(each.empty[loader] for each in repeated) for loader in _BOTH}
    half = {loader: _median(each.half[loader] for each in repeated) for loader in _BOTH}
    same = _median(each.same for each in repeated)
    records = load.records, load.records + load.deltas * (load.rows - load.rows // 2)
    return [
        _seconds("fold into empty", empty["default"], [_limited(upserted, FOLD_LIMIT), _api(empty)]),
        _index("  its index", empty["default"], upserted),
        *_room(empty, empty["api"], records[0] * load.dimension),
        _seconds("fold of half updates", half["default"], [_api(half, limit=UPDATE_LIMIT)]),
        _index("  its index", half["default"], _api(half)),
        *_room(half, fresh, records[1] * load.dimension),
        _seconds("fold of identical rows", same, [_limited(upserted, IDENTICAL_LIMIT)]),
    ]


def _fold_all(place: Path, dimension: int, bulk: float) -> _Folds:
    empty, half = (
        {each: measure(place / f"{kind}-{each}", place / run, dimension, base=base, loader=each) for each in _BOTH}
        for kind, run, base in (("empty", "first", None), ("half", "second", place / "empty-api"))
    )
    same = measure(place / "same", place / "again", dimension, base=place / "empty-default")
    return _Folds(bulk, empty, half, same)


def _median(folds: Iterable[Fold]) -> Fold:
    """Return the fold that took the median of the seconds, with the most memory that any of them took."""
    by_seconds = sorted(folds, key=lambda fold: fold.unverified)
    return by_seconds[len(by_seconds) // 2]._replace(peak_mebibytes=max(fold.peak_mebibytes for fold in by_seconds))


def _limited(reference: Reference, limit: float) -> Reference:
    return reference.model_copy(update={"limit": limit})


_BOTH: tuple[LoaderName, LoaderName] = ("default", "api")


def _api(folds: dict[LoaderName, Fold], *, limit: float | None = None) -> Reference:
    return Reference(name="api", value=folds["api"].unverified, limit=limit)


def _seconds(part: str, fold: Fold, references: list[Reference]) -> Row:
    return Row(part=part, what="seconds, unverified", value=fold.unverified, unit="s", references=references)


def _index(part: str, fold: Fold, reference: Reference) -> Row:
    """Return what queueing the vectors and building the index take, while the records are written beside them."""
    return Row(part=part, what="seconds", value=fold.phases["load.index"], unit="s", references=[reference])


def _room(folds: dict[LoaderName, Fold], fresh: Fold, values: int) -> list[Row]:
    allowed = allowed_mebibytes(values)
    ours = folds["default"]
    peak = Reference(name="api", value=folds["api"].peak_mebibytes)
    held = Reference(name="api", value=fresh.bytes / MEBIBYTE, limit=BYTES_LIMIT)
    part = "  its room"
    return [
        Row(part=part, what="peak memory", value=ours.peak_mebibytes, unit="MiB", references=[peak], limit=allowed),
        Row(part=part, what="directory", value=ours.bytes / MEBIBYTE, unit="MiB", references=[held]),
    ]


def _live(place: Path, load: Load) -> Path:
    """Write a run of the records that both rounds leave, each once."""
    return write_run(place / "live", [*first_round(load), *second_round(load)])


def recall_rows() -> list[Row]:
    """Measure what each loader's index misses, of new records and after half of them got new vectors."""
    old = quality.clustered()
    new = quality.updated(old)
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        place = Path(name)
        first, second = write_run(place / "first", [old]), write_run(place / "second", [new], first=1)
        rows = []
        for what, run, base, records in (
            ("new records", first, None, old),
            ("half replaced", second, place / "default", quality.merged(old, new)),
        ):
            lost: dict[LoaderName, float] = {}
            for loader in reversed(_BOTH):
                directory = place / (loader if base is None else f"half-{loader}")
                measure(directory, run, quality.DIMENSION, base=base, loader=loader)
                lost[loader] = 100 * quality.missed(directory / "chroma", records)
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
