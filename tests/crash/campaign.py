"""Every call of a scenario, and everything that can befall it: run, let the next executions come, look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction import layout
from tests.crash import truth as truths
from tests.crash.faults import Injected, Kind, kinds_for
from tests.crash.folds import FoldMemory
from tests.crash.machine import Ended, Step
from tests.crash.scenarios import Scenario
from tests.crash.truth import Truth
from tests.crash.world import SavedWorld, World, no_fault
from tests.fakes.aws.protocol import Call


class Moment(NamedTuple):
    """The beginning of one step of the story, as it goes when nothing fails, and the calls that the step makes."""

    step: Step
    saved: SavedWorld
    calls: list[Call]


class Violation(NamedTuple):
    """A fault that the product did not survive."""

    fault: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.fault}: {'; '.join(self.problems)}"


@dataclass
class Findings:
    """What a campaign did and found."""

    scenario: str
    crash_points: int = 0
    runs: int = 0
    continuations: int = 0
    folds: int = 0
    snapshots_opened: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Return the counts for a report."""
        return {**asdict(self), "violations": [str(violation) for violation in self.violations]}


class Campaign:
    """All faults of one scenario.

    After a fault the world often is as it was after another one: a process that dies before a call leaves what one
    leaves that dies after the call before. What follows is a function of the world and of the step, so it is run once
    for each distinct pair, and its outcome counts for all.
    """

    def __init__(self, scenario: Scenario, directory: Path, folds: FoldMemory | None = None) -> None:
        self._scenario = scenario
        self._folds = folds or FoldMemory()
        self._world = World(directory, self._folds, **scenario.settings)
        self._known: dict[bytes, tuple[str, ...]] = {}
        self._truth = Truth()
        self.findings = Findings(scenario.name)

    def run(self, *, stop_at_first: bool = False) -> Findings:
        """Run everything, or until something is found."""
        opened = truths.OPENED
        with self._world:
            self._truth = self._scenario.prepare(self._world)
            self._world.observers.append(self._truth.watch)
            for moment in list(self._undisturbed()):
                for number, call in enumerate(moment.calls):
                    self.findings.crash_points += 1
                    for kind in kinds_for(call):
                        self._try(moment, number, call, kind)
                        if stop_at_first and self.findings.violations:
                            return self.findings
        self.findings.folds = len(self._folds)
        self.findings.snapshots_opened = truths.OPENED - opened
        return self.findings

    def _undisturbed(self) -> Iterator[Moment]:
        world, story = self._world, self._scenario.story
        world.problems = []
        step: Step | Ended = story.start()
        while isinstance(step, Step):
            saved = world.save()
            world.calls = []
            following = story.advance(world, step)
            yield Moment(step, saved, world.calls)
            step = following
        problems = (*world.problems, *self._recovered())
        if step.status != "SUCCEEDED" or problems:
            self.findings.violations.append(Violation(f"nothing failed, and it {step}", problems))

    def _try(self, moment: Moment, number: int, call: Call, kind: Kind) -> None:
        world = self._world
        world.restore(moment.saved)
        fault = Injected(kind, number)
        world.fault = fault
        self.findings.runs += 1
        self.findings.kinds[kind.name] += 1
        problems = self._finished(moment.step, fault)
        if problems:
            name = f"{kind.name} at call {number} of {moment.step.state}, {call}"
            self.findings.violations.append(Violation(name, problems))

    def _finished(self, step: Step, fault: Injected) -> tuple[str, ...]:
        """Let the story end, and return all problems. Each moment after the fault is looked up and remembered."""
        world = self._world
        following: Step | Ended = step
        passed: list[tuple[bytes, int]] = []
        rest: tuple[str, ...] | None = None
        while isinstance(following, Step) and rest is None:
            following = self._scenario.story.advance(world, following)
            if isinstance(following, Ended):
                world.fault = no_fault
                self.findings.ended[following.status] += 1
            if isinstance(following, Ended) or fault.spent:
                key = world.fingerprint() + repr(following[:2]).encode()
                rest = self._known.get(key)
                if rest is None:
                    passed.append((key, len(world.problems)))
        if rest is None:
            self.findings.continuations += 1
            rest = self._recovered()
        problems = (*world.problems[: passed[-1][1] if passed else None], *rest)
        for key, before in passed:
            self._known[key] = problems[before:]
        return problems

    def _recovered(self) -> tuple[str, ...]:
        """Let the next executions come as they are scheduled, and return what is wrong from here on."""
        world = self._world
        before = len(world.problems)
        world.fault = no_fault
        world.clock.tick(60)
        world.run("next")
        world.clock.tick(world.settings.lease_seconds + 60)
        self._must_succeed("the one after the lease expired")
        self._scenario.afterwards(world)
        self._must_succeed("the next to the last")
        content = _lasting(world)
        self._must_succeed("the last")
        if _lasting(world) != content:
            world.problems.append("an execution with nothing to do changed something")
        return (*world.problems[before:], *self._truth.final_problems(world))

    def _must_succeed(self, name: str) -> None:
        ended = self._world.run(name.replace(" ", "-"))
        if ended.status != "SUCCEEDED":
            self._world.problems.append(f"{name}: {ended}")


def _lasting(world: World) -> dict[str, str]:
    held = world.aws.s3.buckets.objects["bucket"]
    return {key: stored.etag for key, stored in held.items() if not key.startswith(layout.WORK_PREFIX)}
