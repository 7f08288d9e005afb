"""Replays fuzzed deltas by number, one or many: `python -m tests.fuzz 17`, `python -m tests.fuzz 0-20000`.

A case that fails is halved and repeated, to find the failing number.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.fuzz_case import InputOutcome
from tests.fuzz.inputs import fuzzed
from tests.fuzz.runner import CaseFailedError, run_case, table

AT_ONCE = 500


def main() -> int:
    """Print the outcome of each number, or the counts of each kind. Return 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("numbers", help="one number, or a range such as 0-20000")
    parser.add_argument("--save", metavar="FILE", help="write the bytes of the first delta to FILE")
    arguments = parser.parse_args()
    first, _, last = arguments.numbers.partition("-")
    numbers = range(int(first), int(last or int(first) + 1))
    if arguments.save:
        Path(arguments.save).write_bytes(fuzzed(numbers[0]).body)
    outcomes, failed = _campaign(numbers)
    if len(numbers) < 50:
        sys.stdout.writelines(
            f"{outcome.number} {outcome.kind}: {outcome.status}: {outcome.reason}\n" for outcome in outcomes
        )
    sys.stdout.write(table(outcomes) + "\n")
    return 1 if failed else 0


def _campaign(numbers: range) -> tuple[list[InputOutcome], int]:
    outcomes: list[InputOutcome] = []
    failed = 0
    for start in range(0, len(numbers), AT_ONCE):
        part = numbers[start : start + AT_ONCE]
        try:
            outcomes += run_case(part).outcomes
        except CaseFailedError as error:
            sys.stderr.write(f"{error}\n")
            failed += 1
            if len(part) > 1:
                middle = len(part) // 2
                outcomes += [outcome for half in (part[:middle], part[middle:]) for outcome in _campaign(half)[0]]
    return outcomes, failed


if __name__ == "__main__":
    sys.exit(main())
