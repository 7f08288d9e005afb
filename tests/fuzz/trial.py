"""Putting fuzzed deltas to a process that merges them, and judging what it says."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from tests.fuzz.inputs import fuzzed
from tests.fuzz.ordeal import LARGEST_DELTA, Fate, Ordeal, Verdict

WATCHDOG_SECONDS: Final = 280
"""Far above what a trial takes; below it, a hang would be one's own."""
ROOM: Final = 16 * LARGEST_DELTA
"""How much a process may grow: one delta is decoded at a time, and may take a few times its limit."""

SHOWN = 3000


class Outcome(NamedTuple):
    """What became of each input, and by how many bytes the process grew over them."""

    fates: list[Fate]
    grown: int


class TrialError(AssertionError):
    """The product did not withstand these inputs. Replay them: python -m tests.fuzz NUMBER..."""


def put_to(numbers: Iterable[int], *, defect: str | None = None) -> Outcome:
    """Return what became of the fuzzed deltas of these numbers. Raises TrialError if anything else went wrong."""
    wanted = list(numbers)
    told = f"numbers {wanted[0]} to {wanted[-1]}"
    ordeal = Ordeal([fuzzed(number) for number in wanted], defect)
    try:
        child = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.victim"],
            input=pickle.dumps(ordeal),
            capture_output=True,
            timeout=WATCHDOG_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TrialError(f"{told}: no end within {WATCHDOG_SECONDS} s") from error
    if child.returncode:
        log = child.stderr.decode(errors="replace")[-SHOWN:]
        raise TrialError(f"{told}: the process ended with status {child.returncode}:\n{log}")
    verdict = Verdict(*pickle.loads(child.stdout))
    wrong = verdict.wrong
    if verdict.grown > ROOM:
        wrong.append(f"the process grew by {verdict.grown} bytes, over {ROOM}")
    wrong += [f"{fate.number}, a bomb, was {fate.fate}" for fate in verdict.fates if _went_off(fate)]
    if wrong:
        raise TrialError("\n".join([f"{told}:", *wrong])[:SHOWN])
    return Outcome(verdict.fates, verdict.grown)


def _went_off(fate: Fate) -> bool:
    return fate.kind.endswith("bombs") and fate.fate != "quarantined"


def table(fates: Iterable[Fate]) -> str:
    """Return how many of each kind were merged, ignored and quarantined, as lines of text."""
    counts = Counter((each.kind, each.fate) for each in fates)
    kinds = sorted({kind for kind, _ in counts})
    columns = ("merged", "ignored", "quarantined")
    lines = [f"{'kind':26}" + "".join(f"{name:>13}" for name in columns)]
    lines += [f"{kind:26}" + "".join(f"{counts[kind, fate]:13}" for fate in columns) for kind in kinds]
    total = Counter(fate for kind, fate in counts.elements())
    return "\n".join([*lines, f"{'all':26}" + "".join(f"{total[fate]:13}" for fate in columns)])
