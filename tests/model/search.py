"""A breadth-first search of all reachable states. The first trace to a broken invariant is a shortest one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import tests.model.folds  # noqa: F401 - it adds its steps to EXECUTION
from tests.model.actors import OPERATOR, PRODUCER, READER, Operator, Producer, Reader
from tests.model.execution import ENDED, EXECUTION, Execution
from tests.model.fresh_reader import FRESH_READER, FreshReader
from tests.model.invariants import broken_at_the_end, broken_by, broken_in
from tests.model.protocol import Program, Rules, release
from tests.model.state import NONE, State, with_actor

PROGRAMS: dict[type, Program] = {
    Execution: EXECUTION,
    Producer: PRODUCER,
    Reader: READER,
    FreshReader: FRESH_READER,
    Operator: OPERATOR,
}
STOPPED = {*ENDED, "done"}


class Violation(NamedTuple):
    """A broken invariant, and a shortest trace to it in words."""

    invariant: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        steps = "\n".join(f"{number:4d}. {line}" for number, line in enumerate(self.trace, 1))
        return f"{self.invariant}\n{steps}"


class SearchResult(NamedTuple):
    """The size of the search, and its violation if there is one."""

    states: int
    steps: int
    ends: int
    violation: Violation | None


def explore(rules: Rules, start: State) -> SearchResult:
    """Visit every state reachable from `start`. Stop at the first that breaks an invariant."""
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    waiting = deque([start])
    steps = ends = 0
    checked: dict[State, str | None] = {}
    while waiting:
        state = waiting.popleft()
        is_end = True
        for text, after, is_fault in next_events(rules, state):
            steps += 1
            is_end = is_end and is_fault
            broken = broken_by(rules, state, after)
            if broken is None and after in came_from:
                continue
            broken = broken or broken_in(rules, after)
            if broken:
                violation = Violation(broken, (*_trace(came_from, state), text))
                return SearchResult(len(came_from), steps, ends, violation)
            came_from[after] = (state, text)
            waiting.append(after)
        if is_end:
            ends += 1
            broken = _broken_at_the_end(rules, state, checked)
            if broken:
                return SearchResult(len(came_from), steps, ends, Violation(broken, tuple(_trace(came_from, state))))
    return SearchResult(len(came_from), steps, ends, None)


def next_events(rules: Rules, state: State) -> Iterator[tuple[str, State, bool]]:
    """Yield every possible next event: its description, the state after it, and whether it is a fault."""
    for index, actor in enumerate(state.actors):
        if actor.step not in STOPPED:
            for text, after in PROGRAMS[type(actor)].steps[actor.step].take(rules, state, index, actor):
                yield f"{_name(actor)}{text}", after, False
    if state.faults:
        for text, after in _faults(rules, state._replace(faults=state.faults - 1)):
            yield text, after, True


def _name(actor: Execution | Reader | Producer | Operator) -> str:
    if not isinstance(actor, Execution):
        return ""
    return f"{actor.owner}{f' (attempt {actor.attempt})' if actor.attempt > 1 else ''}: "


def _faults(rules: Rules, state: State) -> Iterator[tuple[str, State]]:
    if state.lock is not None:
        owner = state.lock[0]
        if state.lock[1]:
            yield f"the lease of {owner} expires", state._replace(lock=(owner, False))
        yield f"somebody deletes the lock item of {owner} by hand", state._replace(lock=None)
    for index, actor in enumerate(state.actors):
        if isinstance(actor, Execution) and actor.step not in {*STOPPED, "acquire", "dead", "fail.release"}:
            yield from _execution_faults(rules, state, index, actor)
        elif isinstance(actor, Operator) and actor.step not in {"acquire", "done"}:
            yield _killed(state, index, actor)


def _killed(state: State, index: int, actor: Operator) -> tuple[str, State]:
    if actor.gives_up:
        return "the operator's command is killed", with_actor(state, index, actor._replace(step="done"))
    again = Operator(actor.owner, "acquire", actor.target, is_rerun=True)
    lock = None if state.lock and state.lock[0] == actor.owner else state.lock
    text = "the operator's command is killed, and run again after its lease expires"
    return text, with_actor(state, index, again, lock=lock)


def _execution_faults(rules: Rules, state: State, index: int, actor: Execution) -> Iterator[tuple[str, State]]:
    # The model leaves out one case: a clean-up loses its lease, a whole rollback runs between its last pointer check
    # and its deletes, and it dies before it checks again. Then nobody restores its deltas from compacted/.
    if actor.step not in ("archive.recheck", "archive.restore"):
        step = "gone" if actor.orphan else "dead"
        yield f"{_name(actor)}crashes", with_actor(state, index, Execution(actor.owner, step, actor.attempt))
    if actor.orphan or actor.step == "release":
        return
    orphan = with_actor(state, index, actor._replace(orphan=True))
    released = orphan if rules.defects.no_status_change_rule else release(rules, orphan, actor.owner)
    yield f"{actor.owner} is aborted and its lease released, while its task still runs", released
    again = _second_attempt(actor)
    yield (
        f"{actor.owner} retries its task while the first attempt still runs",
        orphan._replace(actors=(*orphan.actors, again)),
    )


def _second_attempt(actor: Execution) -> Execution:
    """Return another attempt of the same task with the same input."""
    again = actor._replace(attempt=actor.attempt + 1, done=0, finishing=False, old=0, kept=0)
    match actor.step.partition(".")[0]:
        case "list":
            return Execution(actor.owner, "list.renew", again.attempt)
        case "archive" | "prune" if actor.finishing:
            return Execution(actor.owner, "list.renew", again.attempt)
        case "archive" | "prune" | "clean":
            return again._replace(step="clean.renew")
        case "merge":
            return again._replace(step="merge.renew", got=0, bad=0)
        case "upload":
            return again._replace(step="upload.renew", draft=NONE)
        case task:
            return again._replace(step=f"{task}.renew")


def _broken_at_the_end(rules: Rules, state: State, checked: dict[State, str | None]) -> str | None:
    """Run an undisturbed execution after all actors have ended, and return the broken invariant, or None."""
    calm = state._replace(actors=(), faults=0)
    owners = {a.owner for a in state.actors if isinstance(a, Operator)}
    leaked = state.lock is not None and state.lock[1] and state.lock[0] not in owners
    if leaked:
        return "8. The lease is always released: it is held after all actors have ended"
    if calm not in checked:
        checked[calm] = _after_undisturbed(rules, calm._replace(lock=None, actors=(Execution("undisturbed"),)))
    return checked[calm]


def _after_undisturbed(rules: Rules, state: State) -> str | None:
    while state.actors[0].step not in STOPPED:
        step = PROGRAMS[Execution].steps[state.actors[0].step]
        state = next(iter(step.take(rules, state, 0, state.actors[0])))[1]
        broken = broken_in(rules, state)
        if broken:
            return f"{broken} (in an undisturbed execution)"
    return broken_at_the_end(rules, state)


def _trace(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    lines: list[str] = []
    while (step := came_from[state]) is not None:
        state = step[0]
        lines.append(step[1])
    return lines[::-1]
