"""What passes between a trial and the process that it puts fuzzed deltas to."""

from __future__ import annotations

from typing import NamedTuple

from tests.fuzz.inputs import Fuzzed

LARGEST_DELTA = 4 * 1024 * 1024
"""The pass's MAX_DELTA_BYTES: small, so that a bomb need not be large to be one."""


class Ordeal(NamedTuple):
    """What the process is to go through, and the check that is to be missing (None: the product as it is)."""

    inputs: list[Fuzzed]
    defect: str | None


class Fate(NamedTuple):
    """What became of one input: merged, quarantined (with the reason) or ignored, that is, left where it is."""

    number: int
    kind: str
    fate: str
    reason: str | None


class Verdict(NamedTuple):
    """`grown` is by how many bytes the process's largest size grew. `wrong` lists what should not be."""

    fates: list[Fate]
    grown: int
    wrong: list[str]
