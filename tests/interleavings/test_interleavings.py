"""The real steps and adapters, interleaved call by call in an order that a seed decides.

A seed that fails prints its whole story, and is played again by `REPLAY_SEED=123 scripts/test tests/interleavings`.
Folds are on paper (see stage.PaperLoader): what is tried here is the protocol, a hundred times as often.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interleavings.defects import DEFECTS, SeededDefect
from tests.interleavings.play import Crowd, Play
from tests.interleavings.stage import Stage, make_deterministic, use_paper
from tests.reliability_report import Count

PART = "interleavings of the real code"
REPLAY = os.environ.get("REPLAY_SEED")
SEEDS_OF_ONE_TEST = 10
SEEDS = 40
SEEDS_WITH_A_DEFECT = 120
MANY_SEEDS = 3000

Perform = Callable[[int, Crowd | None], Play]


def groups(first: int, end: int) -> list[range]:
    """Return the seeds in the portions that one test plays; only the one to replay, if there is one."""
    if REPLAY is not None:
        return [range(int(REPLAY), int(REPLAY) + 1)] if first == 0 else []
    return [range(start, start + SEEDS_OF_ONE_TEST) for start in range(first, end, SEEDS_OF_ONE_TEST)]


def portion(seeds: range) -> str:
    """Name a portion of seeds."""
    return f"{seeds[0]}-{seeds[-1]}"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("disks"))


@pytest.fixture
def perform(stage: Stage, monkeypatch: pytest.MonkeyPatch, count: Count) -> Iterator[Perform]:
    """Give what plays one seed, and tells its story if it fails."""
    plant = make_deterministic(monkeypatch)
    use_paper(monkeypatch)

    def play(seed: int, crowd: Crowd | None = None) -> Play:
        plant(seed)
        one = Play(stage, seed, crowd)
        try:
            one.perform()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n{one.told()}") from error
        finally:
            count(PART, "plays", 1)
            count(PART, "calls to AWS", one.steps)
            count(PART, "faults", one.faults)
        return one

    with warnings.catch_warnings():
        # A writer warns when the queue was not told: one of the things that go wrong here.
        warnings.simplefilter("ignore", RuntimeWarning)
        yield play


@pytest.mark.parametrize("seeds", groups(0, SEEDS), ids=portion)
def test_whoever_comes_in_between_nothing_is_lost_doubled_or_resurrected(seeds: range, perform: Perform) -> None:
    for seed in seeds:
        perform(seed, None)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", groups(SEEDS, MANY_SEEDS), ids=portion)
def test_nor_in_many_more_interleavings(seeds: range, perform: Perform) -> None:
    for seed in seeds:
        perform(seed, None)


@pytest.mark.parametrize("seed", [5, 33])
def test_a_seed_tells_the_same_story_every_time_whatever_was_played_before(
    seed: int, perform: Perform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform(seed, None)
    told = perform(seed, None).told()
    make_deterministic(monkeypatch)(seed)
    alone = Play(Stage(tmp_path), seed)
    alone.perform()
    assert told == alone.told()


@pytest.mark.parametrize("seeded", DEFECTS, ids=lambda seeded: seeded.defect.__name__)
def test_a_safeguard_taken_away_is_missed(
    seeded: SeededDefect, perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded.defect(monkeypatch)

    def play_all() -> None:
        for seed in range(SEEDS_WITH_A_DEFECT):
            perform((seeded.first + seed) % SEEDS_WITH_A_DEFECT, seeded.crowd)

    with pytest.raises(AssertionError, match=rf"seed \d+: {seeded.rule}\."):
        play_all()
