"""Runs fuzz cases in a worker process, and checks its results."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from tests.fuzz.fuzz_case import LARGEST_DELTA, FuzzCase, InputOutcome, WorkerResult
from tests.fuzz.inputs import fuzzed

WATCHDOG_SECONDS: Final = 280
"""Far longer than a case takes, and shorter than the timeout of a test."""
MAX_GROWTH: Final = 16 * LARGEST_DELTA
"""Bytes. A worker decodes one delta at a time, which may need a few times the limit of a delta."""

MAX_MESSAGE = 3000


class CaseResult(NamedTuple):
    """The outcome of each delta, and the growth of the process's peak memory in bytes."""

    outcomes: list[InputOutcome]
    grown: int


class CaseFailedError(AssertionError):
    """The product failed on these deltas. Replay them: python -m tests.fuzz NUMBER."""


def run_case(numbers: Iterable[int], *, defect: str | None = None) -> CaseResult:
    """Merge the fuzzed deltas of these numbers, and return their outcomes. Raises CaseFailedError for any problem."""
    wanted = list(numbers)
    name = f"numbers {wanted[0]} to {wanted[-1]}"
    case = FuzzCase([fuzzed(number) for number in wanted], defect)
    try:
        child = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.worker"],
            input=pickle.dumps(case),
            capture_output=True,
            timeout=WATCHDOG_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CaseFailedError(f"{name}: the worker did not end within {WATCHDOG_SECONDS} s") from error
    if child.returncode:
        log = child.stderr.decode(errors="replace")[-MAX_MESSAGE:]
        raise CaseFailedError(f"{name}: the process ended with status {child.returncode}:\n{log}")
    found = WorkerResult(*pickle.loads(child.stdout))
    problems = found.problems
    if found.grown > MAX_GROWTH:
        problems.append(f"the process grew by {found.grown} bytes, over {MAX_GROWTH}")
    problems += [
        f"{outcome.number}, a bomb, was {outcome.status}" for outcome in found.outcomes if _bomb_was_accepted(outcome)
    ]
    if problems:
        raise CaseFailedError("\n".join([f"{name}:", *problems])[:MAX_MESSAGE])
    return CaseResult(found.outcomes, found.grown)


def _bomb_was_accepted(outcome: InputOutcome) -> bool:
    return outcome.kind.endswith("bombs") and outcome.status != "quarantined"


def table(outcomes: Iterable[InputOutcome]) -> str:
    """Return a table of how many deltas of each kind were merged, ignored and quarantined."""
    counts = Counter((each.kind, each.status) for each in outcomes)
    kinds = sorted({kind for kind, _ in counts})
    columns = ("merged", "ignored", "quarantined")
    lines = [f"{'kind':26}" + "".join(f"{name:>13}" for name in columns)]
    lines += [f"{kind:26}" + "".join(f"{counts[kind, outcome]:13}" for outcome in columns) for kind in kinds]
    total = Counter(outcome for kind, outcome in counts.elements())
    return "\n".join([*lines, f"{'all':26}" + "".join(f"{total[outcome]:13}" for outcome in columns)])
