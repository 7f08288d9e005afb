"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform

from pydantic import BaseModel, ConfigDict, computed_field
from rich.table import Table

# The most that a phase may take of its reference's time.
LIMITS = {"produce": 0.2, "merge and fold": 0.55}

REFERENCES = ("naive", "bulk", "api", "rule")


class Reference(BaseModel):
    """The same work done another way. `limit`: the most that ours may take of it."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    limit: float | None = None


class Row(BaseModel):
    """One measurement, beside the reference it is held against (`limit` then is a ratio) or a limit of its own."""

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
        """Say whether every limit is kept; None if there is none."""
        kept = [self.value <= reference.limit * reference.value for reference in self.references if reference.limit]
        if self.limit is not None:
            kept.append(self.value <= self.limit)
        return all(kept) if kept else None


class Report(BaseModel):
    """Everything that one run of the benchmark measured, and where."""

    model_config = ConfigDict(frozen=True)

    machine: str
    cores: int
    python: str
    deltas: int
    rows_per_delta: int
    dimension: int
    rows: list[Row]


def machine() -> dict[str, str | int]:
    """Return what a reader needs to compare two reports."""
    return {
        "machine": f"{platform.system()} on {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
    }


def round_rows(part: str, ours: dict[str, float], naive: dict[str, float], bulk: dict[str, float]) -> list[Row]:
    """Return a round's phases, each beside what the references took for it."""
    return [
        Row(
            part=part,
            what=phase,
            value=seconds,
            unit="s",
            references=[
                Reference(name=name, value=reference[phase], limit=LIMITS.get(phase) if name == judge else None)
                for name, reference in (("naive", naive), ("bulk", bulk))
                if phase in reference
            ],
        )
        for phase, seconds in ours.items()
        for judge in ["bulk" if phase in bulk else "naive"]
    ]


def memory_rows(part: str, peaks: dict[str, float], *, limit: float | None = None) -> list[Row]:
    """Return the peak memory of each function or reference."""
    return [Row(part=part, what=name, value=peak, unit="MiB", limit=limit) for name, peak in sorted(peaks.items())]


def table(report: Report) -> Table:
    """Return the report for a terminal."""
    title = f"{report.deltas} deltas x {report.rows_per_delta} records x {report.dimension} dimensions a round"
    caption = f"{report.cores} cores, Python {report.python}, {report.machine}"
    drawn = Table(title=title, caption=caption)
    for column in ("", "measured"):
        drawn.add_column(column, no_wrap=True)
    for column in ("value", *REFERENCES, "ratio", "limit", "kept"):
        drawn.add_column(column, justify="right")
    part, kept = "", {None: "", True: "[green]yes[/]", False: "[red]NO[/]"}
    for row in report.rows:
        if row.part != part:
            drawn.add_section()
        drawn.add_row("" if row.part == part else row.part, row.what, *cells(row), kept[row.within_limits])
        part = row.part
    return drawn


def cells(row: Row) -> list[str]:
    """Return a row's value, its references in the order of REFERENCES, the ratio and the limit.

    The ratio is to the reference that a limit names, else to the first.
    """
    values = {reference.name: reference.value for reference in row.references}
    judged = next((reference for reference in row.references if reference.limit), None)
    limit = f"{judged.limit:g} {judged.name}" if judged else "" if row.limit is None else _number(row.limit, row.unit)
    compared = judged or next(iter(row.references), None)
    ratio = f"{row.value / compared.value:.2f}" if compared else ""
    shown = [_number(value, row.unit) for value in (row.value, *(values.get(name) for name in REFERENCES))]
    return [*shown, ratio, limit]


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:,.0f} {unit}" if unit in {"MiB", "calls"} else f"{value:.2f} {unit}".rstrip()
