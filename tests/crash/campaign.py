"""Injects every fault into every call of a scenario, runs the next executions, and checks the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction import layout
from tests.crash.faults import FaultKind, InjectedFault, kinds_for
from tests.crash.folds import FoldMemory
from tests.crash.readers import FreshReads
from tests.crash.scenarios import Scenario
from tests.crash.state_machine import Ended, Step
from tests.crash.truth import Truth
from tests.crash.world import SavedWorld, World, no_fault
from tests.fakes.aws.protocol import Call

PROBLEM_KINDS = ("lost", "doubled", "resurrected", "half a snapshot", "leaked", "incomplete read")


class StepStart(NamedTuple):
    """The state before one step of an undisturbed procedure, and the calls of the step."""

    step: Step
    saved: SavedWorld
    calls: list[Call]


class Continuation(NamedTuple):
    """The end of a procedure from some state on, and the problems from then on."""

    status: str
    problems: tuple[str, ...]


class HarmfulFault(NamedTuple):
    """A fault that broke an invariant, and the problems."""

    fault: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.fault}: {'; '.join(self.problems)}"


@dataclass
class Findings:
    """The counts and the violations of a campaign."""

    scenario: str
    crash_points: int = 0
    runs: int = 0
    continuations: int = 0
    folds: int = 0
    fresh_reads: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    violations: list[HarmfulFault] = field(default_factory=list)

    def counts(self) -> dict[str, object]:
        """Return the counts of the scenario for the report."""
        messages = " ".join(str(violation) for violation in self.violations)
        return {
            "part": "Crash points: every fault in every call to AWS of a scenario",
            "name": self.scenario,
            "calls": self.crash_points,
            "faults": self.runs,
            **{f"ended_{status.lower()}": number for status, number in sorted(self.ended.items())},
            "distinct_continuations": self.continuations,
            "distinct_folds": self.folds,
            "distinct_fresh_reads": self.fresh_reads,
            **{kind.replace(" ", "_"): messages.count(kind) for kind in PROBLEM_KINDS},
            "violations": len(self.violations),
            "faults_by_kind": dict(self.kinds),
        }


class Campaign:
    """All faults of one scenario.

    Different faults often lead to the same state: a process that dies before a call leaves the same as one that dies
    after the call before. The continuation depends only on the world and the next step, so each distinct pair runs
    once, and its result counts for all.

    Args:
        scenario: The scenario.
        directory: The directory for the disk of the simulated functions.
        folds: Results of earlier folds, to share them between campaigns.
        only: The faults to inject, by state, call and kind. All by default.
        remember: Whether to reuse the results of equal continuations.
    """

    def __init__(
        self,
        scenario: Scenario,
        directory: Path,
        *,
        folds: FoldMemory | None = None,
        only: Callable[[str, Call, FaultKind], bool] = lambda _state, _call, _kind: True,
        remember: bool = True,
    ) -> None:
        self._scenario = scenario
        self._only = only
        self._remember = remember
        self._folds = FoldMemory() if folds is None else folds
        self._world = World(
            directory,
            self._folds,
            executor=scenario.executor,
            folds_in_an_item=scenario.folds_in_an_item,
            **scenario.settings,
        )
        self._known: dict[bytes, Continuation] = {}
        self._reader_directory = directory.with_name(f"{directory.name}-reader")
        self._truth = Truth()
        self.findings = Findings(scenario.name)

    def run(self, *, stop_at_first: bool = False) -> Findings:
        """Inject all faults, or stop at the first violation."""
        with self._world:
            self._truth = self._scenario.prepare(self._world)
            reads = FreshReads(self._truth, self._reader_directory)
            self._world.observers += [self._truth.watch, reads.watch]
            for start in list(self._undisturbed_steps()):
                for number, call in enumerate(start.calls):
                    self.findings.crash_points += 1
                    for kind in kinds_for(call):
                        if stop_at_first and self.findings.violations:
                            return self.findings
                        if self._only(start.step.state, call, kind):
                            self._inject(start, number, call, kind)
        self.findings.folds = len(self._folds)
        self.findings.fresh_reads = len(reads)
        return self.findings

    def _undisturbed_steps(self) -> Iterator[StepStart]:
        world, procedure = self._world, self._scenario.procedure
        world.problems = []
        step: Step | Ended = procedure.start()
        while isinstance(step, Step):
            saved = world.save()
            world.calls = []
            following = procedure.advance(world, step)
            yield StepStart(step, saved, list(world.calls))
            step = following
        problems = (*world.problems, *self._recover())
        if step.status != "SUCCEEDED" or problems:
            self.findings.violations.append(HarmfulFault(f"without any fault it {step}", problems))

    def _inject(self, start: StepStart, number: int, call: Call, kind: FaultKind) -> None:
        world = self._world
        world.restore(start.saved)
        fault = InjectedFault(kind, number)
        world.fault = fault
        self.findings.runs += 1
        self.findings.kinds[kind.name] += 1
        ended, problems = self._finish(start.step, fault)
        if not fault.has_happened:
            raise AssertionError(f"{kind.name} at call {number} of {start.step.state} did not happen")
        self.findings.ended[ended] += 1
        if kind.name in self._scenario.fixed_later:
            problems = tuple(problem for problem in problems if not _is_temporary(problem))
        if kind.absorbed_by in self._scenario.procedure.absorbs and ended != "SUCCEEDED":
            problems = (f"it {ended}, although the fault was transient", *problems)
        if problems:
            name = f"{kind.name} at call {number} of {start.step.state}, {call}"
            self.findings.violations.append(HarmfulFault(name, problems))

    def _finish(self, step: Step, fault: InjectedFault) -> Continuation:
        """Run the procedure to its end, then the next executions. Look up and remember each state after the fault."""
        world, reached = self._world, list[tuple[bytes, int]]()
        continuation: Continuation | None = None
        while continuation is None:
            following = self._scenario.procedure.advance(world, step)
            known = len(world.problems)
            if isinstance(following, Ended):
                world.fault = no_fault
            if isinstance(following, Ended) or fault.is_over:
                key = world.fingerprint() + repr(tuple(following[:2])).encode()
                continuation = self._known.get(key) if self._remember else None
                reached.append((key, known))
            if continuation is None and isinstance(following, Ended):
                self.findings.continuations += 1
                continuation = Continuation(following.status, self._recover())
            elif isinstance(following, Step):
                step = following
        problems = (*world.problems[:known], *continuation.problems)
        for key, before in reached:
            self._known[key] = Continuation(continuation.status, problems[before:])
        return Continuation(continuation.status, problems)

    def _recover(self) -> tuple[str, ...]:
        """Run the next executions as the schedule would, and return the problems from here on."""
        world = self._world
        before = len(world.problems)
        world.fault = no_fault
        world.clock.tick(60)
        world.run("next")
        world.clock.tick(world.settings.lease_seconds + 60)
        self._must_succeed("the execution after the lease expired")
        self._scenario.afterwards(world)
        self._must_succeed("the second last execution")
        content = _permanent_objects(world)
        self._must_succeed("the last execution")
        if _permanent_objects(world) != content:
            world.problems.append("an execution without pending deltas changed something")
        return (*world.problems[before:], *self._truth.final_problems(world))

    def _must_succeed(self, name: str) -> None:
        ended = self._world.run(name.replace(" ", "-"))
        if ended.status != "SUCCEEDED":
            self._world.problems.append(f"{name}: {ended}")


def _permanent_objects(world: World) -> dict[str, str]:
    objects = world.aws.s3.buckets.objects["bucket"]
    return {key: stored.etag for key, stored in objects.items() if not key.startswith(layout.WORK_PREFIX)}


def _is_temporary(problem: str) -> bool:
    passing = (": lost:", ": half a snapshot", ": incomplete read")
    return problem.startswith("after ") and any(kind in problem for kind in passing)
