"""The messages between the runner and the worker process."""

from __future__ import annotations

from typing import NamedTuple

from tests.fuzz.inputs import Fuzzed

LARGEST_DELTA = 4 * 1024 * 1024
"""MAX_DELTA_BYTES of the pass. It is small, so that small files can exceed it."""


class FuzzCase(NamedTuple):
    """The deltas that the worker merges, and the check that is removed from the product (None: no check)."""

    inputs: list[Fuzzed]
    defect: str | None


class InputOutcome(NamedTuple):
    """The outcome of one delta: merged, quarantined (with the reason), or ignored, which means left in delta/."""

    number: int
    kind: str
    status: str
    reason: str | None


class WorkerResult(NamedTuple):
    """The outcomes, the growth of the process's peak memory in bytes, and all problems that were found."""

    outcomes: list[InputOutcome]
    grown: int
    problems: list[str]
