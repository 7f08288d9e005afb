"""Every call of a scenario, and everything that can befall it: run, let the next executions come, look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction import layout
from tests.crash.faults import Injected, Kind, kinds_for
from tests.crash.folds import FoldMemory
from tests.crash.machine import Ended, Step
from tests.crash.scenarios import Scenario
from tests.crash.truth import Truth
from tests.crash.world import SavedWorld, World, no_fault
from tests.fakes.aws.protocol import Call

WRONGS = ("lost", "doubled", "resurrected", "half a snapshot", "leaked")


class Moment(NamedTuple):
    """The beginning of one step of the story, as it goes when nothing fails, and the calls that the step makes."""

    step: Step
    saved: SavedWorld
    calls: list[Call]


class Rest(NamedTuple):
    """How the story ended from some moment on, and all that was wrong from then on."""

    status: str
    problems: tuple[str, ...]


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
    kinds: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def counts(self) -> dict[str, object]:
        """Return what a report says of the scenario."""
        said = " ".join(str(violation) for violation in self.violations)
        return {
            "part": "Crash points: every call to AWS of a scenario, and everything that can befall it",
            "name": self.scenario,
            "calls": self.crash_points,
            "faults": self.runs,
            **{f"ended_{status.lower()}": number for status, number in sorted(self.ended.items())},
            "distinct_continuations": self.continuations,
            "distinct_folds": self.folds,
            **{wrong.replace(" ", "_"): said.count(wrong) for wrong in WRONGS},
            "violations": len(self.violations),
            "faults_by_kind": dict(self.kinds),
        }


class Campaign:
    """All faults of one scenario.

    After a fault the world often is as it was after another one: a process that dies before a call leaves what one
    leaves that dies after the call before. What follows is a function of the world and of the step, so it is run once
    for each distinct pair, and its outcome counts for all.
    """

    def __init__(
        self,
        scenario: Scenario,
        directory: Path,
        *,
        folds: FoldMemory | None = None,
        only: Callable[[str, Call, Kind], bool] = lambda _state, _call, _kind: True,
        remember: bool = True,
    ) -> None:
        self._scenario = scenario
        self._only = only
        self._remember = remember
        self._folds = FoldMemory() if folds is None else folds
        self._world = World(directory, self._folds, executor=scenario.executor, **scenario.settings)
        self._known: dict[bytes, Rest] = {}
        self._truth = Truth()
        self.findings = Findings(scenario.name)

    def run(self, *, stop_at_first: bool = False) -> Findings:
        """Run everything, or until something is found."""
        with self._world:
            self._truth = self._scenario.prepare(self._world)
            self._world.observers.append(self._truth.watch)
            for moment in list(self._undisturbed()):
                for number, call in enumerate(moment.calls):
                    self.findings.crash_points += 1
                    for kind in kinds_for(call):
                        if stop_at_first and self.findings.violations:
                            return self.findings
                        if self._only(moment.step.state, call, kind):
                            self._try(moment, number, call, kind)
        self.findings.folds = len(self._folds)
        return self.findings

    def _undisturbed(self) -> Iterator[Moment]:
        world, story = self._world, self._scenario.story
        world.problems = []
        step: Step | Ended = story.start()
        while isinstance(step, Step):
            saved = world.save()
            world.calls = []
            following = story.advance(world, step)
            yield Moment(step, saved, list(world.calls))
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
        ended, problems = self._finished(moment.step, fault)
        if not fault.happened:
            raise AssertionError(f"{kind.name} at call {number} of {moment.step.state} never happened")
        self.findings.ended[ended] += 1
        if kind.name in self._scenario.mended_later:
            problems = tuple(problem for problem in problems if not _only_for_now(problem))
        if kind.absorbed in self._scenario.story.absorbs and ended != "SUCCEEDED":
            problems = (f"it {ended}, though the fault passed", *problems)
        if problems:
            name = f"{kind.name} at call {number} of {moment.step.state}, {call}"
            self.findings.violations.append(Violation(name, problems))

    def _finished(self, step: Step, fault: Injected) -> Rest:
        """Let the story end and everybody else have a turn. Each moment after the fault is looked up and remembered."""
        world, passed = self._world, list[tuple[bytes, int]]()
        rest: Rest | None = None
        while rest is None:
            following = self._scenario.story.advance(world, step)
            noticed = len(world.problems)
            if isinstance(following, Ended):
                world.fault = no_fault
            if isinstance(following, Ended) or fault.spent:
                key = world.fingerprint() + repr(tuple(following[:2])).encode()
                rest = self._known.get(key) if self._remember else None
                passed.append((key, noticed))
            if rest is None and isinstance(following, Ended):
                self.findings.continuations += 1
                rest = Rest(following.status, self._recovered())
            elif isinstance(following, Step):
                step = following
        problems = (*world.problems[:noticed], *rest.problems)
        for key, before in passed:
            self._known[key] = Rest(rest.status, problems[before:])
        return Rest(rest.status, problems)

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


def _only_for_now(problem: str) -> bool:
    return problem.startswith("after ") and (": lost:" in problem or ": half a snapshot" in problem)
