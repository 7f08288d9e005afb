"""docs/performance.md, written from what was measured and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.loaders import REPETITIONS
from benchmarks.plots import draw
from benchmarks.report import REFERENCES, Report, cells
from benchmarks.sweeps import PHASES, Sweep

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
SMALLEST_SLOPE = 0.0005
"""Seconds per unit below which a phase counts as not growing: less than the noise of one run."""

_HEAD = """# Performance

Written by `scripts/benchmark --report` in one run on {cores} cores ({machine}, Python {python}). Seconds differ from
machine to machine, and from minute to minute on a shared one; ratios are to references measured in the same run, so
hold yours against those. Folds alone, and *bulk*, are medians of {repetitions}, measured in turn. Every measured job
ran on the local stack, whose S3, DynamoDB and Step Functions share the machine's cores with the functions.

- **naive**: each delta is a ChromaDB directory in a tar.gz, merged by reading it whole and upserting in 250s.
- **bulk**: one ChromaDB client that upserts everything in the largest batches, with one flush; no S3, nothing verified.
- **api**: our own fold, through ChromaDB's API.
- **rule**: the constant by which an index is changed in place or built anew.

## Beside the references

{deltas} deltas of {rows_per_delta} records of {dimension} dimensions a round, each with a document of 40 words and
three metadata keys. What an index costs depends on how its vectors are spread: those here have length 1, and a variance
that falls from axis to axis as 1, 1/2, 1/3, ...; *vectors* below holds them against those of real texts, made by
wordllama of the docstrings of Python's standard library, and against vectors without any order, the worst case.

*pending* are deltas of one row each, merged by ten functions at once. On AWS these have processors of their own; here
they share the cores with one another and with S3. So one line is computed, not measured: *if each were alone*, of what
a batch takes that has the machine to itself, and of the fold.

What is not kept, and why its limit stays: [decision 12](decisions/0012-missed-limits-are-reported.md).
"""
_SWEEPS = """
## What grows with what

Seconds of each phase of one compaction. The fold is *plan* to *finalize*: *records* is what goes into SQLite, *index*
what ChromaDB takes to bring its index up to date. Records are written while the index is built; so *records* is only
what that adds. *download* is both the copy of the base and its way into the scratch directory. Peaks are those of
functions that have just built the base as well; the limit is that of one fold.
"""


def write(report: Report, sweeps: list[Sweep]) -> None:
    """Write the page and its plots."""
    text = [_HEAD.format(**report.model_dump(), repetitions=REPETITIONS), _report(report), _SWEEPS]
    for sweep in sweeps:
        plot = PAGE.parent / "plots" / f"{sweep.name}.svg"
        plot.parent.mkdir(exist_ok=True)
        draw(sweep, plot)
        text += [f"\n### {sweep.title}\n\n![Seconds per phase]({plot.parent.name}/{plot.name})\n", _sweep(sweep)]
    PAGE.write_text("\n".join(text), encoding="utf-8")


def _report(report: Report) -> str:
    head = ["", "measured", "value", *REFERENCES, "ratio", "limit", "kept"]
    kept = {True: "yes", False: "**no**", None: ""}
    rows = [[row.part.strip(), row.what, *cells(row), kept[row.within_limits]] for row in report.rows]
    return _table(head, rows)


def _sweep(sweep: Sweep) -> str:
    functions = ("merge-batch", "compactor")
    head = ["", *PHASES, *(f"{name} peak" for name in functions), "limit"]
    rows = [
        [
            point.label,
            *(f"{point.seconds[phase]:.2f} s" for phase in PHASES),
            *(f"{point.peaks.get(name, 0):,.0f} MiB" for name in functions),
            f"{point.allowed:,.0f} MiB",
        ]
        for point in sweep.points
    ]
    return _table(head, rows) + (_slopes(sweep) if len(sweep.points) > 1 else "")


def _slopes(sweep: Sweep) -> str:
    slopes = {phase: slope for phase, slope in sweep.slopes().items() if slope >= SMALLEST_SLOPE}
    grows = ", ".join(f"*{phase}* {1000 * slope:,.1f} ms" for phase, slope in slopes.items()) or "nothing"
    stays = ", ".join(f"*{phase}*" for phase in PHASES if phase not in slopes) or "none"
    return f"\n{sweep.unit} adds: {grows}. It adds less than half a millisecond, or nothing, to {stays}.\n"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
