"""The situations in which every call is made to fail."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from chromadb_compaction.ports import DeltaNotification
from tests.builders import a_uuid7
from tests.crash.determinism import ReversedExecutor, SequentialExecutor
from tests.crash.faults import Absorber
from tests.crash.rollbacks import roll_back
from tests.crash.state_machine import Ended, Step
from tests.crash.truth import Truth
from tests.crash.world import World
from tests.e2e.model import Delta, Row
from tests.fakes.services import START

DAY = 86_400.0


class Procedure(Protocol):
    """A procedure that runs step by step. Only the step is remembered between two steps.

    It must succeed despite a fault that one of `absorbs` absorbs (faults.Absorber).
    """

    absorbs: frozenset[Absorber]

    def start(self) -> Step:
        """Return the first step."""

    def advance(self, world: World, step: Step) -> Step | Ended:
        """Run one step, and return the next."""


class ExecutionProcedure:
    """One execution of the state machine."""

    name = "under-fault"
    absorbs = frozenset[Absorber](["task", "execution"])

    def start(self) -> Step:
        """Return the first step."""
        return Step("AcquireLock", "{}")

    def advance(self, world: World, step: Step) -> Step | Ended:
        """Run one state."""
        return world.advance(step, self.name)


class RollbackProcedure:
    """One command of an operator: publish the first snapshot again, and replay the deltas merged since then."""

    absorbs = frozenset[Absorber](["task"])

    def start(self) -> Step:
        """Return the only step."""
        return Step("Rollback", "{}")

    def advance(self, world: World, step: Step) -> Step | Ended:
        """Run the command."""
        return roll_back(world, "operator:me@here/first")


class Scenario(NamedTuple):
    """One situation. `prepare` creates the initial content, `procedure` runs with faults.

    After the kinds of fault in `fixed_later`, the published snapshot may lack rows or its manifest until the procedure
    has ended.
    """

    name: str
    prepare: Callable[[World], Truth]
    procedure: Procedure = ExecutionProcedure()
    settings: Mapping[str, object] = {}
    fixed_later: Collection[str] = ("overtaken by a rollback",)
    executor: type[SequentialExecutor] = SequentialExecutor
    folds_in_an_item: int | None = None
    afterwards: Callable[[World], None] = lambda _world: None
    """The operator's action before the last two executions."""


def a_delta(
    number: int, rows: Mapping[str, Sequence[float] | None], *, collection: str = "docs", **extra: Any
) -> Delta:
    """Return the delta with version `number`. A row of None is a delete. `extra` may give the document."""
    built = tuple(
        Row(row_id, None)
        if vector is None
        else Row(row_id, tuple(vector), extra.get("document", f"{row_id} of {number}"), {"number": number})
        for row_id, vector in rows.items()
    )
    return Delta(collection, built, str(a_uuid7(START - 1000, number)))


def put(world: World, *deltas: Delta) -> None:
    """Write deltas, and notify the queue."""
    objects, queue = world.services.objects, world.services.queue
    for delta in deltas:
        objects.put(delta.key, delta.body())
    queue.notify([DeltaNotification(delta.key, len(delta.rows), len(delta.body())) for delta in deltas])


def put_and_compact(world: World, name: str, *deltas: Delta) -> None:
    """Put deltas and compact them without faults."""
    put(world, *deltas)
    ended = world.run(name)
    if ended.status != "SUCCEEDED":
        raise AssertionError(f"{name} {ended}")


def _first_snapshot(world: World) -> Truth:
    deltas = [
        a_delta(1, {"a": [1, 0], "b": [0, 1]}),
        a_delta(2, {"b": None, "c": [1, 1], "never-seen": None}),
        a_delta(3, {"a": [2, 0]}),
    ]
    put(world, *deltas)
    return Truth(deltas)


BASE = [a_delta(10, {"a": [1, 0], "b": [0, 1], "c": [1, 1], "d": [3, 3]}), a_delta(11, {"gone": [9, 9]})]
TOMBSTONE = a_delta(12, {"gone": None})


def _on_a_base(world: World) -> Truth:
    put_and_compact(world, "base", *BASE, TOMBSTONE)
    deltas = [
        a_delta(5, {"gone": [7, 7], "d": [4, 4]}),  # late: older than the tombstone and d
        a_delta(20, {"a": [5, 5], "new": [0, 2]}),
        a_delta(21, {"b": None, "c": [1, 1]}),
        a_delta(22, {"b": [6, 6], "d": None}),
    ]
    put(world, *deltas)
    return Truth([*BASE, TOMBSTONE, *deltas])


def a_drop(number: int, *, collection: str = "docs") -> Delta:
    """Return the delta with version `number` that drops the collection."""
    name = str(a_uuid7(START - 1000, number))
    return Delta(collection, (), name, ".jsonl.gz", header={"format": 2, "drop": True})


def _dropped(world: World) -> Truth:
    """Drop one collection that gets another shape, and one that keeps a newer record."""
    first = [a_delta(10, {"a": [1, 0], "b": [0, 1]}), a_delta(11, {"x": [1, 0]}, collection="other")]
    newer = a_delta(30, {"y": [2, 0]}, collection="other")
    put_and_compact(world, "base", *first, newer)
    deltas = [
        a_delta(15, {"late": [7, 7]}),
        a_drop(20),
        a_delta(21, {"a": [1, 0, 0]}),
        a_drop(25, collection="other"),
    ]
    put(world, *deltas)
    return Truth([*first, newer, *deltas, LATE], undone=frozenset({LATE.key}))


LATE = a_delta(16, {"late": [8, 8], "a": [9, 9]})
"""A delta from before the drop of `docs`, which arrives after it."""


def _put_late(world: World) -> None:
    put(world, LATE)


def _rollback_before_a_drop(world: World) -> Truth:
    """Drop a collection and give it another shape, each in a snapshot of its own."""
    deltas = [a_delta(1, {"a": [1, 0]}), a_drop(2), a_delta(3, {"a": [3, 0, 0]})]
    for delta in deltas:
        put_and_compact(world, f"earlier-{delta.name}", delta)
    return Truth(deltas)


def _several_collections(world: World) -> Truth:
    first = [a_delta(10, {"a": [1, 0]}), a_delta(11, {"x": [1, 0, 0]}, collection="other")]
    put_and_compact(world, "base", *first)
    deltas = [
        a_delta(20, {"a": [2, 0]}),
        a_delta(21, {"b": [0, 2]}),
        a_delta(22, {"y": [1]}, collection="third"),
        a_delta(23, {"x": None}, collection="third"),
    ]
    put(world, *deltas)
    return Truth([*first, *deltas])


def _many_collections(world: World) -> Truth:
    """Change four collections, of which UploadSnapshot folds one, and two other functions the rest."""
    names = ("docs", "other", "third")
    first = [a_delta(10 + n, {"a": [1, n], "b": [n, 1]}, collection=name) for n, name in enumerate(names)]
    put_and_compact(world, "base", *first)
    deltas = [
        a_delta(20, {"a": [2, 0]}),
        a_delta(21, {"a": None}, collection="other"),
        a_delta(22, {"c": [0, 3]}, collection="third"),
        a_delta(23, {"x": [1]}, collection="fourth"),
    ]
    put(world, *deltas)
    return Truth([*first, *deltas])


def _partitions(world: World) -> Truth:
    """Change a collection of four partitions: one is folded in place, two are joined, and one is divided."""
    first = [a_delta(number, {f"{name}{n}": [n, number] for n in range(10)}) for number, name in enumerate("bdfh", 10)]
    gone = a_delta(15, {f"{name}{number}": None for name in "df" for number in range(1, 10)})
    put_and_compact(world, "base", *first)
    put_and_compact(world, "deleted", gone)
    deltas = [
        a_delta(5, {"d1": [7, 7]}),  # late: older than the tombstone, which moves
        a_delta(20, {"b0": [8, 8], "b1": None, "c": [3, 3], "d0": [9, 9]}),
        a_delta(21, {f"h{number}": [number, 5] for number in range(8, 16)}),
    ]
    put(world, *deltas)
    return Truth([*first, gone, *deltas])


def _waiting(world: World) -> Truth:
    """Let one collection have enough rows to be merged, while another one waits, of which some rows are published."""
    first = [a_delta(10, {"x": [1, 0], "y": [0, 1], "z": [1, 1]}, collection="other")]
    put_and_compact(world, "base", *first)
    deltas = [a_delta(20, {"a": [2, 0], "b": [0, 2], "c": [3, 3]}), a_delta(21, {"x": None}, collection="other")]
    put(world, *deltas)
    return Truth([*first, *deltas])


def _quarantined(world: World) -> Truth:
    first = a_delta(10, {"a": [1, 0]})
    put_and_compact(world, "base", first)
    good, bad, unreadable = a_delta(20, {"a": [2, 0]}), a_delta(21, {"b": [float("nan"), 0]}), a_delta(22, {})
    put(world, good, bad)
    world.services.objects.put(unreadable.key, b"no Parquet")
    return Truth([first, good], {bad.key: bad.body(), unreadable.key: b"no Parquet"})


def _unreadable(world: World) -> Truth:
    """Let one delta be archived to Glacier before it is merged."""
    good, archived = a_delta(1, {"a": [1, 0]}), a_delta(2, {"b": [0, 1]})
    put(world, good, archived)
    objects = world.aws.s3.buckets.objects["bucket"]
    objects[archived.key] = objects[archived.key]._replace(archived=True)
    return Truth([good], unreadable={archived.key: archived.body()})


def _several_passes(world: World) -> Truth:
    deltas = [a_delta(n, {"a": [n, 0], f"own-{n}": [0, n]}) for n in (1, 2, 3)]
    put(world, *deltas)
    return Truth(deltas)


def _nothing_new(world: World) -> Truth:
    first = a_delta(10, {"a": [1, 0], "b": None})
    put_and_compact(world, "base", first)
    late = [a_delta(1, {"a": [7, 7]}), a_delta(2, {"b": [8, 8]})]
    put(world, *late)
    return Truth([first, *late])


def _pruning(world: World) -> Truth:
    """Let the published snapshot share files with the first one, which is old enough to be pruned."""
    untouched = a_delta(1, {"x": [1, 0, 0]}, collection="untouched")
    deltas = [untouched, *(a_delta(n, {"a": [n, 0], f"own-{n}": [0, n]}) for n in (2, 3, 4))]
    for delta in deltas[:3]:
        put_and_compact(world, f"earlier-{delta.name}", delta)
        world.clock.tick(3 * DAY)
    put(world, deltas[3])
    return Truth(deltas)


def _pruning_of_a_line(world: World) -> Truth:
    """Let a clean-up have a list of the kept snapshots, of which the oldest has what the published one shares."""
    untouched = a_delta(1, {"x": [1, 0, 0]}, collection="untouched")
    deltas = [*(a_delta(n, {"a": [n, 0], f"own-{n}": [0, n]}) for n in (2, 3)), untouched, a_delta(4, {"a": [4, 0]})]
    for delta in deltas[:3]:
        put_and_compact(world, f"earlier-{delta.name}", delta)
        world.clock.tick(0.6 * DAY)
    put(world, deltas[3])
    return Truth(deltas)


def _unfinished(world: World) -> Truth:
    """Let an earlier execution die between publishing and cleaning up."""
    deltas = [a_delta(n, {"a": [n, 0], f"own-{n}": [0, n]}) for n in (1, 2)]
    put(world, deltas[0])
    _die_before_clean_up(world)
    put(world, deltas[1])
    return Truth(deltas)


def _die_before_clean_up(world: World) -> None:
    step: Step | Ended = world.machine.start()
    while isinstance(step, Step) and step.state != "CleanUp":
        step = world.advance(step, "died")
    world.clock.tick(world.settings.lease_seconds + 60)


def _without_the_queue(world: World) -> Truth:
    truth = _first_snapshot(world)
    world.aws.sqs.queues.messages.pop("queue")
    return truth


def _rollback(world: World) -> Truth:
    deltas = [a_delta(n, {"a": [n, 0], f"own-{n}": [0, n]}) for n in (1, 2, 3)]
    for delta in deltas:
        put_and_compact(world, f"earlier-{delta.name}", delta)
    return Truth(deltas)


def _same_size(delta: Delta) -> Delta:
    """Return the delta with other content of the same size under the same key."""
    rows = tuple(replace(row, id=row.id.swapcase()) for row in delta.rows)
    other = replace(delta, rows=rows)
    if len(other.body()) != len(delta.body()) or other.body() == delta.body():
        raise AssertionError("the size differs, or the content does not")
    return other


def _rewritten(world: World) -> Truth:
    """Let a producer write a key again after its first content was archived."""
    first = a_delta(10, {"a": [1, 0], "b": [0, 1]})
    put_and_compact(world, "base", first)
    late = a_delta(20, {"c": [2, 2]})
    put(world, _same_size(first), late)
    return Truth([first, late], rewritten={first.key: _same_size(first).body()})


def _rewritten_before_the_clean_up(world: World) -> Truth:
    """Let a producer write a key again after its first content was published, and before it was archived."""
    first = a_delta(1, {"a": [1, 0], "b": [0, 1]})
    put(world, first)
    _die_before_clean_up(world)
    put(world, _same_size(first))
    return Truth([first], rewritten={first.key: _same_size(first).body()}, unarchived=frozenset({first.key}))


def _branch(world: World) -> Truth:
    """Let a rollback undo the second snapshot, and the third one begin a branch."""
    deltas = [a_delta(n, {"a": [n, 0], f"own-{n}": [0, n]}) for n in (1, 2, 3)]
    for delta in deltas[:2]:
        put_and_compact(world, f"earlier-{delta.name}", delta)
    ended = roll_back(world, "operator:me@here/earlier", replay=False)
    if ended.status != "SUCCEEDED":
        raise AssertionError(f"the earlier rollback {ended}")
    put_and_compact(world, f"earlier-{deltas[2].name}", deltas[2])
    return Truth(deltas, undone=frozenset({deltas[1].key}))


def _rollback_again(world: World) -> None:
    ended = roll_back(world, "operator:me@here/again")
    if ended.status != "SUCCEEDED":
        world.problems.append(f"the repeated rollback {ended}")


OVERTAKING = ("overtaken", "overtaken midway", "overtaken by a rollback")
PARTITIONS = {"PARTITION_SPLIT_RECORDS": 12, "PARTITION_TARGET_RECORDS": 10}
SCENARIOS = (
    Scenario("first snapshot", _first_snapshot),
    Scenario("updates and deletes on a base", _on_a_base),
    Scenario("several collections", _several_collections, settings={"COMPACTION_BATCH_SIZE": 1}),
    Scenario(
        "several collections, parallel calls backwards",
        _several_collections,
        settings={"COMPACTION_BATCH_SIZE": 1},
        executor=ReversedExecutor,
    ),
    Scenario("folds by several functions", _many_collections, folds_in_an_item=2),
    Scenario("partitions", _partitions, settings=PARTITIONS),
    Scenario("partitions folded by several functions", _partitions, settings=PARTITIONS, folds_in_an_item=2),
    Scenario(
        "a collection that waits",
        _waiting,
        settings={"COMPACTION_MIN_ROWS": 3, "COMPACTION_MAX_AGE_MINUTES": 10},
    ),
    Scenario("dropped collections", _dropped, settings={"COMPACTION_BATCH_SIZE": 1}, afterwards=_put_late),
    Scenario("a quarantined delta", _quarantined),
    Scenario("an unreadable delta", _unreadable),
    Scenario("several passes", _several_passes, settings={"COMPACTION_BATCH_SIZE": 1, "MAX_BATCHES_PER_PASS": 1}),
    Scenario("nothing new", _nothing_new),
    Scenario("pruning", _pruning, settings={"SNAPSHOT_RETENTION_COUNT": 1}),
    Scenario(
        "pruning of a line",
        _pruning_of_a_line,
        settings={"SNAPSHOT_RETENTION_COUNT": 1, "SNAPSHOT_RETENTION_DAYS": 0.5},
    ),
    Scenario("an unfinished clean-up", _unfinished),
    Scenario("a deleted queue", _without_the_queue),
    Scenario("a key written again", _rewritten),
    Scenario("a key written again before its clean-up", _rewritten_before_the_clean_up),
    Scenario("rollback with replay", _rollback, RollbackProcedure(), fixed_later=OVERTAKING),
    Scenario("rollback with replay of a drop", _rollback_before_a_drop, RollbackProcedure(), fixed_later=OVERTAKING),
    Scenario(
        "rollback with replay, repeated",
        _rollback,
        RollbackProcedure(),
        fixed_later=OVERTAKING,
        afterwards=_rollback_again,
    ),
    Scenario(
        "rollback with replay, also of a branch",
        _branch,
        RollbackProcedure(),
        fixed_later=OVERTAKING,
        afterwards=_rollback_again,
    ),
)
