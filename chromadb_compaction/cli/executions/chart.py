"""The geometry of a chart that shows an execution as bars on a time axis."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from chromadb_compaction.cli.common.formatting import counted, duration
from chromadb_compaction.cli.executions.timeline import FOLDS, Attempt, StateVisit, Timeline
from chromadb_compaction.layout import batch_number

BarKind = Literal["stay", "done", "failed", "running"]

_ROUND_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_MOST_TICKS = 8


class Bar(NamedTuple):
    """A period, in fractions of the whole time. The kind `stay` is the time in a state, the others are attempts."""

    begin: float
    length: float
    kind: BarKind
    title: str


class Row(NamedTuple):
    """One visit of a state, or one batch of the Map named by `of`."""

    label: str
    of: str | None
    seconds: float
    bars: tuple[Bar, ...]
    remark: str


class Chart(NamedTuple):
    """All rows in the order of their start. A tick is a fraction of the whole time and its label."""

    ticks: tuple[tuple[float, str], ...]
    rows: tuple[Row, ...]


def draw(timeline: Timeline, began: datetime, ended: datetime) -> Chart:
    """Return the chart of the time from `began` to `ended` (now, if the execution runs)."""
    axis = _Axis(began, ended)
    rows: list[Row] = []
    for visit in timeline.visits:
        if visit.inside is None:
            rows.append(_visit_row(visit, timeline, axis))
            rows += _batch_rows(visit, timeline, axis)
    return Chart(axis.ticks(), tuple(rows))


class _Axis:
    def __init__(self, began: datetime, ended: datetime) -> None:
        self._began = began
        self.ended = max(ended, began)
        self._seconds = max((ended - began).total_seconds(), 0.001)

    def bar(self, begin: datetime, end: datetime, kind: BarKind, title: str) -> Bar:
        start, stop = self._fraction(begin), self._fraction(end)
        return Bar(start, max(stop - start, 0.0), kind, title)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        step = next((each for each in _ROUND_SECONDS if self._seconds / each <= _MOST_TICKS), self._seconds / 4)
        count = int(self._seconds / step)
        return tuple((number * step / self._seconds, _tick_label(number * step)) for number in range(count + 1))

    def _fraction(self, moment: datetime) -> float:
        return min(max((moment - self._began).total_seconds() / self._seconds, 0.0), 1.0)


def _tick_label(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" if not rest else f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def _visit_row(visit: StateVisit, timeline: Timeline, axis: _Axis) -> Row:
    end = visit.left or axis.ended
    stay = axis.bar(visit.entered, end, "stay", f"{visit.name}: {duration(visit.seconds(axis.ended))}")
    tries = () if visit.kind == "Map" else _attempts(visit.tries, end, axis)
    return Row(visit.name, None, visit.seconds(axis.ended), (stay, *tries), _remark(visit, timeline))


def _remark(visit: StateVisit, timeline: Timeline) -> str:
    inner = timeline.iterations_of(visit)
    failed = len(visit.failures) + sum(len(each.failures) for each in inner)
    batches = len({each.iteration for each in inner}) if inner else visit.succeeded
    parts = [counted(batches, *visit.noun)] if visit.kind == "Map" else []
    parts += [counted(failed, "failed attempt")] if failed else []
    return ", ".join(parts)


def _batch_rows(visit: StateVisit, timeline: Timeline, axis: _Axis) -> list[Row]:
    """Return a row for each batch of a Map. If the engine hides iterations, the attempts are grouped by batch."""
    if visit.kind != "Map":
        return []
    remarks = _batch_remarks(timeline, visit)
    groups: dict[str, list[Attempt]] = {}
    for each in timeline.iterations_of(visit):
        key = next((attempt.batch for attempt in each.tries if attempt.batch), None)
        groups.setdefault(_batch_label(key, each.iteration, visit), []).extend(each.tries)
    for number, attempt in enumerate(visit.tries, start=1):
        unknown = f"attempt {number}, {visit.noun[0]} unknown"
        label = _batch_label(attempt.batch, None, visit) if attempt.batch else unknown
        groups.setdefault(label, []).append(attempt)
    end = visit.left or axis.ended
    return [
        Row(label, visit.name, _total_seconds(tries, end), _attempts(tries, end, axis), remarks.get(label, ""))
        for label, tries in sorted(groups.items())
    ]


def _batch_label(key: str | None, iteration: int | None, visit: StateVisit) -> str:
    return f"{visit.noun[0]} {batch_number(key) if key else f'{iteration or 0:04d}'}"


def _batch_remarks(timeline: Timeline, visit: StateVisit) -> dict[str, str]:
    """Return the collection and number of deltas of each batch of the Map's pass, by the batch's label.

    For FoldPartitions: the first collection and the number of folds of each item.
    """
    if visit.name == FOLDS:
        plans = [output.get("snapshot", {}).get("folds", []) for output in timeline.outputs.get("UploadSnapshot", ())]
        number = sum(each.name == FOLDS and each.entered <= visit.entered for each in timeline.visits)
        planned = [plan for plan in plans if plan][number - 1 : number]
        return {
            _batch_label(each["key"], None, visit): f"{each['collection']}, {counted(each['folds'], 'fold')}"
            for each in next(iter(planned), [])
        }
    passes = [each for each in timeline.visits if each.name == "ListDeltas" and each.entered <= visit.entered]
    outputs = timeline.outputs.get("ListDeltas", ())[: len(passes)]
    batches = outputs[-1].get("work", {}).get("batches", []) if outputs else []
    return {
        _batch_label(each["key"], None, visit): f"{each['collection']}, {counted(each['deltas'], 'delta')}"
        for each in batches
    }


def _attempts(tries: Iterable[Attempt], end: datetime, axis: _Axis) -> tuple[Bar, ...]:
    bars = []
    for number, each in enumerate(tries, start=1):
        kind: BarKind = "failed" if each.failure else ("done" if each.ended else "running")
        stop = each.ended or end
        took = duration(max((stop - each.began).total_seconds(), 0.0))
        result = f"{each.failure.error}: {each.failure.message}" if each.failure else kind
        bars.append(axis.bar(each.began, stop, kind, f"attempt {number}, {took}, {result}"))
    return tuple(bars)


def _total_seconds(tries: list[Attempt], end: datetime) -> float:
    last = max(each.ended or end for each in tries) if tries else end
    return max((last - min((each.began for each in tries), default=end)).total_seconds(), 0.0)
