"""Every state that can be reached, breadth first, so that the first trace to a broken invariant is a shortest one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from tests.model.execution import ENDED, EXECUTION, Execution
from tests.model.invariants import broken_by, broken_in, broken_in_the_end
from tests.model.people import OPERATOR, PRODUCER, READER, Operator, Producer, Reader
from tests.model.protocol import Program, Rules, release
from tests.model.world import NONE, World, with_actor

PROGRAMS: dict[type, Program] = {Execution: EXECUTION, Producer: PRODUCER, Reader: READER, Operator: OPERATOR}
STOPPED = {*ENDED, "done"}


class Violation(NamedTuple):
    """A broken invariant, and the shortest way there in words."""

    invariant: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        steps = "\n".join(f"{number:4d}. {line}" for number, line in enumerate(self.trace, 1))
        return f"{self.invariant}\n{steps}"


class Explored(NamedTuple):
    """How much was looked at, and what was found."""

    states: int
    steps: int
    ends: int
    violation: Violation | None


def explore(rules: Rules, start: World) -> Explored:
    """Visit every state reachable from `start`, or stop at the first that breaks an invariant."""
    came_from: dict[World, tuple[World, str] | None] = {start: None}
    waiting = deque([start])
    steps = ends = 0
    quiet: dict[World, str | None] = {}
    while waiting:
        world = waiting.popleft()
        is_end = True
        for text, after, is_fault in moves(rules, world):
            steps += 1
            is_end = is_end and is_fault
            broken = broken_by(rules, world, after)
            if broken is None and after in came_from:
                continue
            broken = broken or broken_in(rules, after)
            if broken:
                violation = Violation(broken, (*_trace(came_from, world), text))
                return Explored(len(came_from), steps, ends, violation)
            came_from[after] = (world, text)
            waiting.append(after)
        if is_end:
            ends += 1
            broken = _ended(rules, world, quiet)
            if broken:
                return Explored(len(came_from), steps, ends, Violation(broken, tuple(_trace(came_from, world))))
    return Explored(len(came_from), steps, ends, None)


def moves(rules: Rules, world: World) -> Iterator[tuple[str, World, bool]]:
    """Yield everything that can happen next: in words, the world after it, and whether it is a fault."""
    for index, actor in enumerate(world.actors):
        if actor.place not in STOPPED:
            for text, after in PROGRAMS[type(actor)].steps[actor.place].take(rules, world, index, actor):
                yield f"{_name(actor)}{text}", after, False
    if world.faults:
        for text, after in _faults(rules, world._replace(faults=world.faults - 1)):
            yield text, after, True


def _name(actor: Execution | Reader | Producer | Operator) -> str:
    if not isinstance(actor, Execution):
        return ""
    return f"{actor.owner}{f' (attempt {actor.attempt})' if actor.attempt > 1 else ''}: "


def _faults(rules: Rules, world: World) -> Iterator[tuple[str, World]]:
    if world.lock is not None:
        owner = world.lock[0]
        if world.lock[1]:
            yield f"the lease of {owner} expires", world._replace(lock=(owner, False))
        yield f"somebody deletes the lock of {owner} by hand", world._replace(lock=None)
    for index, actor in enumerate(world.actors):
        if isinstance(actor, Execution) and actor.place not in {*STOPPED, "acquire", "dead", "fail.release"}:
            yield from _misfortunes(rules, world, index, actor)
        elif isinstance(actor, Operator) and actor.place not in {"acquire", "done"}:
            yield _killed(world, index, actor)


def _killed(world: World, index: int, actor: Operator) -> tuple[str, World]:
    if actor.gives_up:
        return "the operator's command is killed", with_actor(world, index, actor._replace(place="done"))
    again = Operator(actor.owner, "acquire", actor.target, typed_again=True)
    lock = None if world.lock and world.lock[0] == actor.owner else world.lock
    text = "the operator's command is killed, and typed again once its lease has run out"
    return text, with_actor(world, index, again, lock=lock)


def _misfortunes(rules: Rules, world: World, index: int, actor: Execution) -> Iterator[tuple[str, World]]:
    # What the model does not hold: a clean-up that loses its lease, is overtaken by a whole rollback between its last
    # look and its deletes, and then dies before it looks back. Its deltas are in compacted/, and nobody brings them.
    if actor.place not in ("settle.again", "settle.restore"):
        place = "gone" if actor.orphan else "dead"
        yield f"{_name(actor)}crashes", with_actor(world, index, Execution(actor.owner, place, actor.attempt))
    if actor.orphan or actor.place == "release":
        return
    orphan = with_actor(world, index, actor._replace(orphan=True))
    released = orphan if rules.defects.no_status_change_rule else release(rules, orphan, actor.owner)
    yield f"{actor.owner} is aborted, and its lease released; its task still runs", released
    again = _second_attempt(actor)
    yield (
        f"{actor.owner} tries its task again, while the first attempt still runs",
        orphan._replace(actors=(*orphan.actors, again)),
    )


def _second_attempt(actor: Execution) -> Execution:
    """Return the attempt that begins the same task with the same input."""
    again = actor._replace(attempt=actor.attempt + 1, done=0, back=False, old=0, kept=0)
    match actor.place.partition(".")[0]:
        case "list":
            return Execution(actor.owner, "list.renew", again.attempt)
        case "settle" | "prune" if actor.back:
            return Execution(actor.owner, "list.renew", again.attempt)
        case "settle" | "prune" | "clean":
            return again._replace(place="clean.renew")
        case "merge":
            return again._replace(place="merge.renew", got=0, bad=0)
        case "upload":
            return again._replace(place="upload.renew", draft=NONE)
        case task:
            return again._replace(place=f"{task}.renew")


def _ended(rules: Rules, world: World, quiet: dict[World, str | None]) -> str | None:
    """Let a quiet execution come when all is over, and say what it did not put right."""
    calm = world._replace(actors=(), faults=0)
    owners = {a.owner for a in world.actors if isinstance(a, Operator)}
    leaked = world.lock is not None and world.lock[1] and world.lock[0] not in owners
    if leaked:
        return "8. The lease is always released: it is held though nobody works any more"
    if calm not in quiet:
        quiet[calm] = _after_quiet(rules, calm._replace(lock=None, actors=(Execution("quiet"),)))
    return quiet[calm]


def _after_quiet(rules: Rules, world: World) -> str | None:
    while world.actors[0].place not in STOPPED:
        step = PROGRAMS[Execution].steps[world.actors[0].place]
        world = next(iter(step.take(rules, world, 0, world.actors[0])))[1]
        broken = broken_in(rules, world)
        if broken:
            return f"{broken} (a quiet execution does it)"
    return broken_in_the_end(rules, world)


def _trace(came_from: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    lines: list[str] = []
    while (step := came_from[world]) is not None:
        world = step[0]
        lines.append(step[1])
    return lines[::-1]
