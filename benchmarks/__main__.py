"""The benchmark's command line, which `scripts/benchmark` runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import job, performance
from benchmarks.answers import exact_answers, one_directory_rows
from benchmarks.backlog import backlog_rows
from benchmarks.calls import counting_relay
from benchmarks.child import run_child
from benchmarks.cold import cold_rows
from benchmarks.cycles import cycle_rows
from benchmarks.deferral import deferral_rows
from benchmarks.documents import document_rows
from benchmarks.fresh import fresh_rows
from benchmarks.index import index_rows
from benchmarks.large import RECORDS, large_collection
from benchmarks.loaders import REPETITIONS, fold_rows, recall_rows
from benchmarks.memory import watched_workers
from benchmarks.one_of_many import MANY, one_of_many_rows
from benchmarks.references import BulkUpsert
from benchmarks.report import Report, Row, machine, memory_rows, round_rows, table
from benchmarks.scale import COLLECTIONS, many_collections
from benchmarks.sustained import sustained_rows
from benchmarks.sweeps import Sweep, number_of_deltas, share_of_updates, size_of_base, wide_vectors
from benchmarks.two_collections import two_collection_rows
from benchmarks.vectors import vector_rows
from benchmarks.workload import Load, first_round, second_round
from chromadb_compaction.local.home import StackHome

IDLE_CALLS = 8
ROUNDS = ("into empty", "half updates")
TABLE_WIDTH = 150

console = Console(stderr=True)


def benchmark(  # noqa: PLR0913 - one parameter for each option
    *,
    deltas: Annotated[int, typer.Option(min=1, help="Deltas in each of the two rounds.")] = 20,
    rows: Annotated[int, typer.Option(min=2, help="Records in each delta.")] = 500,
    dimension: Annotated[int, typer.Option(min=1, help="Dimensions of each embedding.")] = 384,
    backlog: Annotated[
        int, typer.Option(min=0, help="Pending deltas in the backlog measurement; 0 skips it.")
    ] = 10_000,
    fresh_only: Annotated[bool, typer.Option("--fresh-only", help="Measure fresh reads alone.")] = False,
    scale: Annotated[
        bool,
        typer.Option(
            "--scale",
            help="Measure a large collection and many small ones alone. Write their part of docs/performance.md.",
        ),
    ] = False,
    sweeps: Annotated[
        bool,
        typer.Option("--sweeps", help="Vary deltas, base and updates alone. Write their part of docs/performance.md."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Also write its part of docs/performance.md.")] = False,
) -> None:
    """Measure folds without AWS, and one job on a new local stack, and compare both with references.

    naive: each delta is a ChromaDB directory in a tar.gz. bulk: one client, the largest batches, one flush. api: our
    fold with ChromaDB's API.

    Seconds differ from machine to machine, so limits are ratios to a reference of the same run.
    """
    load = Load(deltas, rows, dimension)
    of_machine = Report(**machine(), deltas=deltas, rows_per_delta=rows, dimension=dimension, rows=[])
    if sweeps:
        performance.write_sweeps(of_machine, _sweeps())
        return
    if fresh_only or scale:
        measured = _scale(dimension) if scale else _fresh_alone(load)
        result = of_machine.model_copy(update={"rows": measured})
        if scale:
            performance.write_scale(result)
        _show(result, as_json=as_json)
        return
    naive = _reference("naive", load)
    bulks: list[dict[str, Any]] = []

    def upsert_in_bulk() -> BulkUpsert:
        bulks.append(_reference("bulk", load))
        console.print("folding without AWS ...")
        first = bulks[-1]["rounds"][0]
        return BulkUpsert(first["merge and fold"], first["processor"])

    measured = _measured(
        chain(
            fold_rows(load, upsert_in_bulk),
            two_collection_rows(load),
            document_rows(load.dimension),
            recall_rows(),
            cycle_rows(),
            index_rows(load),
            vector_rows(),
        )
    )
    bulk = _median_of(bulks)
    # A server of its own for each, because it keeps every object of its buckets in memory.
    with job.local_server() as home:
        measured += _measured(chain(_job(home, load, naive, bulk), [_idle(home)]))
    if backlog:
        with job.local_server() as home:
            console.print(f"writing and draining a backlog of {backlog:,} deltas ...")
            measured += _measured(backlog_rows(home, load, bulk["rounds"][0]["merge and fold"], backlog))
    with job.local_server() as home:
        measured += _fresh(home, load)
    with job.local_server() as home:
        console.print("starting new processes, and compacting ten rounds ...")
        measured += _measured(chain(cold_rows(home, load), sustained_rows(home, load)))
    result = of_machine.model_copy(update={"rows": measured})
    if report:
        performance.write(result)
    _show(result, as_json=as_json)


def _measured(rows: Iterable[Row]) -> list[Row]:
    """Return the rows. Print each as soon as it is measured, so that an error later loses none."""
    found = []
    for row in rows:
        console.print(f"  {row.part}: {row.what} {row.value:,.2f} {row.unit}", soft_wrap=True)
        found.append(row)
    return found


def _show(result: Report, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(result.model_dump_json(indent=2) + "\n")
    else:
        # Rich assumes that a pipe is 80 columns wide, which is too narrow for the table.
        Console(width=None if sys.stdout.isatty() else TABLE_WIDTH).print(table(result))


def _fresh(home: StackHome, load: Load) -> list[Row]:
    console.print("reading pending records ...")
    return _measured(fresh_rows(home, load))


def _fresh_alone(load: Load) -> list[Row]:
    with job.local_server() as home:
        return _fresh(home, load)


def _scale(dimension: int) -> list[Row]:
    console.print(f"compacting one collection of {RECORDS:,} records ...")
    exact = exact_answers(RECORDS, dimension)
    with job.local_server() as home:
        measured = _measured(large_collection(home, exact, RECORDS, dimension))
    console.print("folding the same records into one directory ...")
    measured += _measured(one_directory_rows(RECORDS, exact, dimension))
    console.print(f"compacting {COLLECTIONS:,} collections ...")
    with job.local_server() as home:
        measured += _measured(many_collections(home, COLLECTIONS, dimension))
    console.print(f"compacting one of {MANY:,} collections ...")
    return [*measured, *_measured(chain(one_of_many_rows(), deferral_rows()))]


def _job(home: StackHome, load: Load, naive: dict[str, Any], bulk: dict[str, Any]) -> list[Row]:
    """Measure the two rounds, and compare them with the references."""
    console.print("compacting on the local stack ...")
    peaks: dict[str, float] = {}
    repeated = []
    for number in range(REPETITIONS):
        services = job.deployed(home, f"job{number}")
        job.warm_up(services)
        with watched_workers(f"-job{number}") as measured_peaks:
            repeated.append(list(job.run_rounds(services, load, (first_round(load), second_round(load)))))
        peaks = {name: max(peak, peaks.get(name, 0)) for name, peak in measured_peaks.items()}
    compared = zip(ROUNDS, zip(*repeated, strict=True), naive["rounds"], bulk["rounds"], strict=True)
    round_lines = [row for name, *measured in compared for row in round_rows(name, *measured)]
    references = {f"({kind})": measured["peak_mebibytes"] for kind, measured in (("naive", naive), ("bulk", bulk))}
    return [*round_lines, *memory_rows("peak memory", peaks | references)]


def _reference(kind: str, load: Load) -> dict[str, Any]:
    """Run a reference in a new process."""
    console.print(f"reference: {kind} ...")
    with TemporaryDirectory(prefix="chromadb-benchmark-") as directory:
        return run_child("benchmarks.references", kind, directory, json.dumps(load))


def _median_of(references: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each number of a reference that ran several times."""
    rounds = zip(*(each["rounds"] for each in references), strict=True)
    return {
        "rounds": [{phase: median(each[phase] for each in same) for phase in same[0]} for same in rounds],
        "peak_mebibytes": median(each["peak_mebibytes"] for each in references),
    }


def _idle(home: StackHome) -> Row:
    """Count the AWS calls of an execution that has nothing to do."""
    console.print("counting the calls of an idle execution ...")
    with counting_relay(os.environ["AWS_ENDPOINT_URL"]) as counter:
        calls = job.idle_calls(job.deployed(home, "idle", relay=counter), counter, first_round(Load(1, 2, 2)))
    console.print(f"  {', '.join(calls)}", soft_wrap=True)
    return Row(part="nothing to do", what="AWS calls", value=len(calls), unit="calls", limit=IDLE_CALLS)


def _sweeps() -> Iterator[Sweep]:
    for sweep in (number_of_deltas, share_of_updates, size_of_base, wide_vectors):
        console.print(f"varying: {sweep.__name__.replace('_', ' ')} ...")
        with job.local_server() as home:
            yield sweep(home)


if __name__ == "__main__":
    typer.run(benchmark)
