"""Replays fuzzed deltas by number, or many of them: `python -m tests.fuzz 17`, `python -m tests.fuzz 0-20000`.

A trial that fails is repeated one by one, so that the number at fault is named.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.inputs import fuzzed
from tests.fuzz.ordeal import Fate
from tests.fuzz.trial import TrialError, put_to, table

AT_ONCE = 500


def main() -> int:
    """Print what became of each number, or of each kind; return 1 if the product failed any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("numbers", help="one number, or two: from-to")
    parser.add_argument("--save", metavar="FILE", help="write the delta's bytes there")
    given = parser.parse_args()
    first, _, last = given.numbers.partition("-")
    numbers = range(int(first), int(last or int(first) + 1))
    if given.save:
        Path(given.save).write_bytes(fuzzed(numbers[0]).body)
    fates, failed = _campaign(numbers)
    if len(numbers) < 50:
        sys.stdout.writelines(f"{fate.number} {fate.kind}: {fate.fate}: {fate.reason}\n" for fate in fates)
    sys.stdout.write(table(fates) + "\n")
    return 1 if failed else 0


def _campaign(numbers: range) -> tuple[list[Fate], int]:
    fates: list[Fate] = []
    failed = 0
    for start in range(0, len(numbers), AT_ONCE):
        part = numbers[start : start + AT_ONCE]
        try:
            fates += put_to(part).fates
        except TrialError as error:
            sys.stderr.write(f"{error}\n")
            failed += 1
            if len(part) > 1:
                middle = len(part) // 2
                fates += [fate for half in (part[:middle], part[middle:]) for fate in _campaign(half)[0]]
    return fates, failed


if __name__ == "__main__":
    sys.exit(main())
