"""The real steps and adapters, interleaved call by call in an order that a seed decides.

A seed that fails prints all events, and `REPLAY_SEED=123 scripts/test tests/interleavings` runs it again. Folds write
JSON files (see environment.JsonLoader): these tests are about the protocol, and ChromaDB would be too slow.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interleavings.defects import DEFECTS, SeededDefect
from tests.interleavings.environment import Environment, make_deterministic, use_json_folds
from tests.interleavings.invariant_checker import InvariantChecker
from tests.interleavings.simulation import ActorSet, Simulation
from tests.reliability_report import Count

PART = "interleavings of the real code"
REPLAY = os.environ.get("REPLAY_SEED")
SEEDS_OF_ONE_TEST = 10
SEEDS = 20
SEEDS_OF_PARTITIONS = 6
SEEDS_WITH_A_DEFECT = 120
MANY_SEEDS = 3000

Simulate = Callable[[int, ActorSet | None], Simulation]


def groups(first: int, end: int) -> list[range]:
    """Return the seeds of each test, or only the seed to replay."""
    if REPLAY is not None:
        return [range(int(REPLAY), int(REPLAY) + 1)] if first == 0 else []
    return [range(start, min(start + SEEDS_OF_ONE_TEST, end)) for start in range(first, end, SEEDS_OF_ONE_TEST)]


def first_and_last(seeds: range) -> str:
    """Return the name of a group of seeds."""
    return f"{seeds[0]}-{seeds[-1]}"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("disks"))


@pytest.fixture
def simulate(environment: Environment, monkeypatch: pytest.MonkeyPatch, count: Count) -> Iterator[Simulate]:
    """Yield a function that simulates one seed, and shows its events if it fails."""
    set_seed = make_deterministic(monkeypatch)
    use_json_folds(monkeypatch)

    def run(seed: int, actor_set: ActorSet | None = None) -> Simulation:
        set_seed(seed)
        one = Simulation(environment, seed, actor_set)
        try:
            one.run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n{one.report()}") from error
        finally:
            count(PART, "simulations", 1)
            count(PART, "calls to AWS", one.steps)
            count(PART, "faults", one.faults)
            count(PART, "directories divided", one.checker.divided)
            count(PART, "directories joined", one.checker.joined)
        return one

    with warnings.catch_warnings():
        # A writer warns when its notification fails, which is one of the injected faults.
        warnings.simplefilter("ignore", RuntimeWarning)
        yield run


@pytest.mark.parametrize("seeds", [*groups(0, SEEDS), *groups(66, 67)], ids=first_and_last)
def test_no_interleaving_loses_doubles_or_resurrects_anything(seeds: range, simulate: Simulate) -> None:
    for seed in seeds:
        simulate(seed, None)


@pytest.mark.parametrize("seeds", groups(0, SEEDS), ids=first_and_last)
def test_in_every_interleaving_fresh_reads_see_what_was_written(seeds: range, simulate: Simulate) -> None:
    for seed in seeds:
        simulate(seed, "fresh reads")


@pytest.mark.parametrize("seeds", groups(0, SEEDS_OF_PARTITIONS), ids=first_and_last)
def test_no_interleaving_of_folds_breaks_a_partitioned_collection(seeds: range, simulate: Simulate) -> None:
    simulated = [simulate(seed, "partitions") for seed in seeds]

    if REPLAY is None:
        assert sum(each.checker.divided for each in simulated) > SEEDS_OF_PARTITIONS
        assert sum(each.checker.joined for each in simulated) > 0
        assert sum("FoldPartition 1" in each.report() for each in simulated) > SEEDS_OF_PARTITIONS / 2


@pytest.mark.slow
@pytest.mark.parametrize("seeds", groups(SEEDS_OF_PARTITIONS, MANY_SEEDS), ids=first_and_last)
def test_no_other_interleaving_of_folds_does_either(seeds: range, simulate: Simulate) -> None:
    for seed in seeds:
        simulate(seed, "partitions")


@pytest.mark.slow
@pytest.mark.parametrize("seeds", groups(SEEDS, MANY_SEEDS), ids=first_and_last)
def test_in_every_other_interleaving_they_do_too(seeds: range, simulate: Simulate) -> None:
    for seed in seeds:
        simulate(seed, "fresh reads")


@pytest.mark.slow
@pytest.mark.parametrize("seeds", groups(SEEDS, MANY_SEEDS), ids=first_and_last)
def test_no_other_interleaving_does_either(seeds: range, simulate: Simulate) -> None:
    for seed in seeds:
        simulate(seed, None)


@pytest.mark.parametrize(("seed", "actor_set"), [(5, None), (33, None), (3, "partitions")])
def test_a_seed_gives_the_same_events_whatever_ran_before(
    seed: int, actor_set: ActorSet | None, simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(seed, actor_set)
    events = simulate(seed, actor_set).report()
    make_deterministic(monkeypatch)(seed)
    alone = Simulation(Environment(tmp_path), seed, actor_set)
    alone.run()
    assert events == alone.report()


def test_a_failed_check_of_a_reader_fails_the_simulation(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("4. a reader got wrong rows")

    monkeypatch.setattr(InvariantChecker, "check_read", fail)

    with pytest.raises(AssertionError, match=r"seed 5: 4\. a reader got wrong rows"):
        simulate(5, None)


@pytest.mark.parametrize("seeded", DEFECTS, ids=lambda seeded: seeded.defect.__name__)
def test_the_simulation_finds_a_removed_safeguard(
    seeded: SeededDefect, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded.defect(monkeypatch)

    def run_all() -> None:
        for seed in range(SEEDS_WITH_A_DEFECT):
            simulate(seeded.first + seed, seeded.actor_set)

    with pytest.raises(AssertionError, match=rf"seed \d+: {seeded.invariant}\."):
        run_all()
