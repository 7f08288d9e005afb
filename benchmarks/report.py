"""The benchmark's report: a table for people and JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict, computed_field
from rich.table import Table

LIMITS = {"produce": 0.2, "merge and fold": 0.55}
"""The most seconds of a phase, as a ratio to its reference."""

REFERENCES = ("naive", "bulk", "api", "without")
HEAD = ("", "measured", "value", "from - to", *REFERENCES, "ratio", "limit", "met")


class Reference(BaseModel):
    """The same work done another way. `limit` is the greatest allowed ratio of our value to this one.

    `repeated` are its measurements, in the order of the row's, if each was measured right before or after ours.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    limit: float | None = None
    repeated: list[float] = []


class Row(BaseModel):
    """One measurement, with its references. `limit` is an absolute limit; a reference's limit is a ratio.

    `repeated` are the measurements of which `value` is the median. It is empty if there was one.
    """

    model_config = ConfigDict(frozen=True)

    part: str
    what: str
    value: float
    unit: str
    references: list[Reference] = []
    limit: float | None = None
    repeated: list[float] = []

    def ratio(self, reference: Reference) -> float | None:
        """Return the ratio to a reference: the median of the pairs if both were repeated. None to one of zero."""
        if self.repeated and reference.repeated:
            return median(ours / other for ours, other in zip(self.repeated, reference.repeated, strict=True))
        return self.value / reference.value if reference.value else None

    @computed_field  # type: ignore[prop-decorator] # pydantic documents it so: mypy's issue 1362
    @property
    def within_limits(self) -> bool | None:
        """Return whether every limit is met. None if there is no limit."""
        met = [_is_met(self.ratio(each), each.limit, self.value) for each in self.references if each.limit]
        if self.limit is not None:
            met.append(self.value <= self.limit)
        return all(met) if met else None


def _is_met(ratio: float | None, limit: float, value: float) -> bool:
    return value <= 0 if ratio is None else ratio <= limit


class Report(BaseModel):
    """The measurements of one run of the benchmark, with its machine and its workload."""

    model_config = ConfigDict(frozen=True)

    machine: str
    cores: int
    python: str
    deltas: int
    rows_per_delta: int
    dimension: int
    rows: list[Row]


def machine() -> dict[str, str | int]:
    """Return the facts about this machine that a reader needs to compare two reports."""
    return {
        "machine": f"{platform.system()} on {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
    }


def round_rows(
    part: str, measured: Sequence[dict[str, float]], naive: dict[str, float], bulk: dict[str, float]
) -> list[Row]:
    """Return a row for each phase of a round that was measured several times.

    Its limit is a ratio to bulk if bulk has the phase, else to naive.
    """
    return [
        Row(
            part=part,
            what=phase,
            value=median(each[phase] for each in measured),
            unit="s",
            repeated=[each[phase] for each in measured],
            references=[
                Reference(name=name, value=reference[phase], limit=LIMITS.get(phase) if name == limiting else None)
                for name, reference in (("naive", naive), ("bulk", bulk))
                if phase in reference
            ],
        )
        for phase in measured[0]
        for limiting in ["bulk" if phase in bulk else "naive"]
    ]


def memory_rows(part: str, peaks: dict[str, float], *, limit: float | None = None) -> list[Row]:
    """Return a row with the peak memory of each function or reference."""
    return [Row(part=part, what=name, value=peak, unit="MiB", limit=limit) for name, peak in sorted(peaks.items())]


def table(report: Report) -> Table:
    """Return the report as a table for a terminal."""
    title = f"{report.deltas} deltas x {report.rows_per_delta} records x {report.dimension} dimensions a round"
    caption = f"{report.cores} cores, Python {report.python}, {report.machine}"
    drawn = Table(title=title, caption=caption)
    for column in HEAD[:2]:
        drawn.add_column(column, no_wrap=True)
    for column in HEAD[2:]:
        drawn.add_column(column, justify="right")
    part, met = "", {None: "", True: "[green]yes[/]", False: "[red]NO[/]"}
    for row in report.rows:
        if row.part != part:
            drawn.add_section()
        drawn.add_row("" if row.part == part else row.part, row.what, *cells(row), met[row.within_limits])
        part = row.part
    return drawn


def cells(row: Row) -> list[str]:
    """Return a row's value, its spread, its references in the order of REFERENCES, the ratio and the limit.

    The ratio is to the reference that has a limit, else to the first one. There is none to a reference of zero.
    """
    values = {reference.name: reference.value for reference in row.references}
    limiting = next((reference for reference in row.references if reference.limit), None)
    compared = limiting or next(iter(row.references), None)
    compared_ratio = row.ratio(compared) if compared else None
    ratio = "" if compared_ratio is None else f"{compared_ratio:.2f}"
    spread = f"{min(row.repeated):.2f} - {max(row.repeated):.2f}" if len(row.repeated) > 1 else ""
    references = (_number(value, row.unit) for value in map(values.get, REFERENCES))
    limit = f"{limiting.limit:g} {limiting.name}" if limiting else _number(row.limit, row.unit)
    return [_number(row.value, row.unit), spread, *references, ratio, limit]


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return (
        f"{value:,.0f} {unit}" if unit in {"MiB", "calls", "records", "records/s"} else f"{value:.2f} {unit}".rstrip()
    )
