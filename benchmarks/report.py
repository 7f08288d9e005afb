"""The benchmark's report: a table for people and JSON for programs."""

from __future__ import annotations

import os
import platform

from pydantic import BaseModel, ConfigDict, computed_field
from rich.table import Table

LIMITS = {"produce": 0.2, "merge and fold": 0.55}
"""The most seconds of a phase, as a ratio to its reference."""

REFERENCES = ("naive", "bulk", "api", "without")
HEAD = ("", "measured", "value", *REFERENCES, "ratio", "limit", "met")


class Reference(BaseModel):
    """The same work done another way. `limit` is the greatest allowed ratio of our value to this one."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    limit: float | None = None


class Row(BaseModel):
    """One measurement, with its references. `limit` is an absolute limit; a reference's limit is a ratio."""

    model_config = ConfigDict(frozen=True)

    part: str
    what: str
    value: float
    unit: str
    references: list[Reference] = []
    limit: float | None = None

    @computed_field  # type: ignore[prop-decorator] # pydantic documents it so: mypy's issue 1362
    @property
    def within_limits(self) -> bool | None:
        """Return whether every limit is met. None if there is no limit."""
        met = [self.value <= reference.limit * reference.value for reference in self.references if reference.limit]
        if self.limit is not None:
            met.append(self.value <= self.limit)
        return all(met) if met else None


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


def round_rows(part: str, measured: dict[str, float], naive: dict[str, float], bulk: dict[str, float]) -> list[Row]:
    """Return a row for each phase of a round. Its limit is a ratio to bulk if bulk has the phase, else to naive."""
    return [
        Row(
            part=part,
            what=phase,
            value=seconds,
            unit="s",
            references=[
                Reference(name=name, value=reference[phase], limit=LIMITS.get(phase) if name == limiting else None)
                for name, reference in (("naive", naive), ("bulk", bulk))
                if phase in reference
            ],
        )
        for phase, seconds in measured.items()
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
    """Return a row's value, its references in the order of REFERENCES, the ratio and the limit.

    The ratio is to the reference that has a limit, else to the first one. There is none to a reference of zero.
    """
    values = {reference.name: reference.value for reference in row.references}
    limiting = next((reference for reference in row.references if reference.limit), None)
    compared = limiting or next(iter(row.references), None)
    ratio = f"{row.value / compared.value:.2f}" if compared and compared.value else ""
    limit = f"{limiting.limit:g} {limiting.name}" if limiting else _number(row.limit, row.unit)
    return [*(_number(value, row.unit) for value in (row.value, *map(values.get, REFERENCES))), ratio, limit]


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:,.0f} {unit}" if unit in {"MiB", "calls", "records"} else f"{value:.2f} {unit}".rstrip()
