"""Write docs/performance.md from the measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.loaders import REPETITIONS
from benchmarks.plots import draw
from benchmarks.report import HEAD, Report, cells
from benchmarks.sweeps import PHASES, Sweep

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
SMALLEST_SLOPE = 0.0005
"""A phase with fewer seconds per unit counts as not growing: this is less than the noise of one run."""

_HEAD = """# Performance

Written by `scripts/benchmark --report` in one run on {cores} cores ({machine}, Python {python}). Seconds differ from
machine to machine, and from minute to minute on a shared machine. Ratios are to references measured in the same run, so
compare your ratios with these. The folds without AWS are medians of {repetitions} runs, each measured in turn with its
references, and their ratio is the median of the pairs' ratios. The rounds of the job are medians of {repetitions} runs
too, but after *bulk*, not in turn with it. *from - to* are the least and the greatest measurement. Other rows were
measured once, or have their own median, such as *p50*.
Every job ran on the local stack, whose S3, DynamoDB and Step Functions share the machine's cores with the functions.

- **naive**: each delta is a ChromaDB directory in a tar.gz, which is read whole and upserted 250 records at a time.
- **bulk**: one ChromaDB client upserts everything in the largest batches, with one flush, without S3 or verification.
- **api**: our own fold, with ChromaDB's API.
- **without**: the same query without pending rows, or the same fold with pages of 4 KiB.

*processor* counts the processor seconds of all threads, which depend less on what else the machine does.

## Compared with the references

A round is {deltas} deltas of {rows_per_delta} records with {dimension} dimensions. Each record has a document of 40
words and three metadata keys. The cost of an index depends on how its vectors are spread. The vectors of this benchmark
have length 1, and their variance falls from axis to axis as 1, 1/2, 1/3, .... The *vectors* rows compare them with
embeddings of real texts (wordllama, on the docstrings of Python's standard library) and with vectors without order, the
worst case.

The *pending* rows measure deltas of one row each, merged by ten functions at once. On AWS each function has its own
processor. Here the functions share the cores with each other and with S3. So *if each were alone* is computed, not
measured: from the time of a batch that has the machine to itself, and from the time of the fold.

The *rounds* rows follow records from the PUT of their deltas to the published snapshot, round after round into a base
that grows. Amazon S3 Vectors documents at most 2,500 vectors a second in one index
([limits](https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-vectors-limitations.html)).

*write to first answer* begins with the call of `upsert`, and ends with the answer of another process.

The *missed* rows count records that searches miss after many folds that each replace 3 % of the vectors; see
[decision 19](decisions/0019-replaced-vectors-get-new-entries.md).

[Decision 12](decisions/0012-missed-limits-are-reported.md) explains the limits that are not met, and why they stay.
"""
_SWEEPS = """## How time grows

Written by `scripts/benchmark --sweeps` in one run on {cores} cores ({machine}, Python {python}). Each table has the
seconds of the phases of one compaction. The fold is *plan* to *finalize*. *index* is the time that ChromaDB needs to
update its index. *records* is the time to write SQLite's rows, which runs at the same time, so only the time that it
adds is counted. *download* includes the download of the base and the copy into the scratch directory. The peaks include
the work of building the base in the same functions; the limit is that of one fold.
"""

_SCALE = """## A large collection, and many small ones

Written by `scripts/benchmark --scale` in one run on {cores} cores ({machine}, Python {python}). The records have
{dimension} dimensions, and a document of 40 words.

The large collection is written at once, in deltas of 2,000 records, and compacted by one execution. Then follow two
passes of 1,000 rows. *a fold elsewhere* is the time of one directory in the functions of FoldPartitions, which share
the cores here. A collection of a single directory writes about *the whole collection* in every pass. The same records
are also folded into one directory, without AWS and without a limit of memory. The answers of both are compared with
exact search. One record of a hundred passes the filter.

The *simulated* rows are computed. The plans are those of the real code, the seconds of folds those of its cost model,
and the other seconds and sizes were measured on the collection above. Its first execution is simulated too, beside what
was measured. *on Lambda* assumes that a function is as fast as this machine, which is not measured. All records are
pending at the beginning, and each execution begins when the one before has ended. *storage of what it replaces* is the
price of keeping all that is written for four days.

*a day of 100 rows every 15 minutes* is simulated too, by the rule of deferral, for a collection of 1 GB of which each
fold writes all files.

Each of the small collections gets one delta of five records, and a single execution merges them all: first into
nothing, then into what it has published.

*one of 20,000 collections* is a pass of five records, with all tasks in one process and the bucket in memory. *without*
is the same pass in a bucket of 20 collections, measured in turn with it.
"""

_BETWEEN = "\n<!-- Another run has written what follows. -->\n\n"
_PARTS = ("report", "sweeps", "scale")
"""The parts of the page, in order. Each is written by the option of that name, and leaves the others as they are."""


def write(report: Report) -> None:
    """Write the part of the page that compares with the references."""
    _replace("report", [_HEAD.format(**report.model_dump(), repetitions=REPETITIONS), _report(report)])


def write_sweeps(report: Report, sweeps: Iterable[Sweep]) -> None:
    """Write the part of the page about sweeps, and their plots."""
    text = [_SWEEPS.format(**report.model_dump())]
    for sweep in sweeps:
        plot = PAGE.parent / "plots" / f"{sweep.name}.svg"
        plot.parent.mkdir(exist_ok=True)
        draw(sweep, plot)
        text += [f"### {sweep.title}\n\n![Seconds per phase]({plot.parent.name}/{plot.name})\n", _sweep(sweep)]
    _replace("sweeps", text)


def write_scale(report: Report) -> None:
    """Write the part of the page about scale."""
    _replace("scale", [_SCALE.format(**report.model_dump()), _report(report)])


def _replace(name: str, text: Sequence[str]) -> None:
    parts = dict(zip(_PARTS, PAGE.read_text(encoding="utf-8").split(_BETWEEN), strict=True))
    parts[name] = "\n".join(text).strip() + "\n"
    PAGE.write_text(_BETWEEN.join(parts.values()), encoding="utf-8")


def _report(report: Report) -> str:
    met = {True: "yes", False: "**no**", None: ""}
    rows = [[row.part.strip(), row.what, *cells(row), met[row.within_limits]] for row in report.rows]
    return _table(HEAD, rows)


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
    grows = ", ".join(f"{1000 * slope:,.1f} ms to *{phase}*" for phase, slope in slopes.items()) or "nothing"
    stays = ", ".join(f"*{phase}*" for phase in PHASES if phase not in slopes) or "no phase"
    return f"\n{sweep.unit} adds {grows}. It adds less than half a millisecond to {stays}.\n"


def _table(head: Sequence[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
