"""The rows of the simulation: the measured collection simulated, larger ones on Lambda, and the first limits beyond."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from benchmarks.on_lambda import Platform, on_lambda
from benchmarks.report import Row
from benchmarks.simulation import Order, Passed, Rates, Simulation, largest
from chromadb_compaction.settings import MEBIBYTE
from chromadb_compaction.snapshots.space import PROGRAM_BYTES

COUNTS: Final = (10_000_000, 100_000_000)
ORDERS: Final[tuple[Order, ...]] = ("ascending", "random")
PASS_ROWS: Final = 1000
FUNCTIONS: Final = ((3008, 10_240), (10_240, 10_240))
"""MB of memory and of disk of query functions: the default, and the largest that Lambda has."""


class Measured(NamedTuple):
    """An execution that was measured on this machine.

    Attributes:
        records: The records that it merged into an empty collection, with ids that ascend.
        rows: The rows of each delta.
        folding: The seconds of its folds.
        total: The seconds of the execution.
    """

    records: int
    rows: int
    folding: float
    total: float


def simulated_rows(rates: Rates, here: Platform, execution: Measured) -> Iterator[Row]:
    """Yield the simulation of an execution on this machine, and those of larger collections on Lambda."""
    records, rows = execution.records, execution.rows
    simulated = Simulation(rates, here).write(records, rows, "ascending")
    part = f"{records:,} records, simulated on this machine"
    for what, value, measured in (
        ("folds", simulated.folding, execution.folding),
        ("execution", simulated.seconds, execution.total),
    ):
        yield Row(part=part, what=what, value=value, unit="s")
        yield Row(part=part, what=f"{what}, simulated / measured", value=value / measured, unit="")
    for count in COUNTS:
        for order in ORDERS:
            on = Simulation(rates, on_lambda())
            yield from _rows(f"{count:,} records on Lambda, simulated: {order} ids", on.write(count, rows, order))
        for order in ORDERS:
            on = Simulation(rates, on_lambda(), records=count)
            part = f"{PASS_ROWS:,} rows more on Lambda, simulated: {order} ids of {count:,}"
            yield from _rows(part, on.write(PASS_ROWS, PASS_ROWS, order))
    for memory, disk in FUNCTIONS:
        held = min((memory * MEBIBYTE - PROGRAM_BYTES) / rates.memory_bytes, disk * MEBIBYTE / rates.record_bytes)
        yield Row(part="largest collection", what=f"a query function of {memory:,} MB", value=held, unit="records")
    passed = largest(rates, on_lambda(), PASS_ROWS)
    yield Row(part="largest collection", what="a pass of random ids, in time", value=passed, unit="records")


def _rows(part: str, done: Passed) -> Iterator[Row]:
    if done.passes > 1:
        yield Row(part=part, what="passes", value=done.passes, unit="passes")
    yield Row(part=part, what="time", value=done.seconds / 60, unit="min")
    yield Row(part=part, what="functions that fold for a pass", value=done.functions, unit="functions")
    yield Row(part=part, what="written to snapshot/", value=done.written / 1e9, unit="GB")
    yield Row(part=part, what="functions and requests", value=done.dollars, unit="dollars")
    yield Row(part=part, what="storage of what it replaces", value=done.storing, unit="dollars")
