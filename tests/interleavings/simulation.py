"""One interleaving. A seed decides the actors, the order of their calls, and the faults."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

from chromadb_compaction.errors import CompactionError
from chromadb_compaction.ports import Services
from tests.fakes.aws.protocol import Call, text_header
from tests.interleavings.actors import (
    MANY_IDS,
    SMALL_WRITES,
    Writes,
    WrittenDeltas,
    fresh_reader,
    operator,
    producer,
    reader,
)
from tests.interleavings.environment import LEASE_SECONDS, START, Environment
from tests.interleavings.execution import SimulatedExecution
from tests.interleavings.invariant_checker import InvariantChecker
from tests.interleavings.scheduler import Actor, Order

ActorSet = Literal["everybody", "rollback", "fresh reads", "partitions"]
PARTITIONS = {"compaction_batch_size": 100, "partition_split_records": 5, "partition_target_records": 5}
FEW = 2
DEFERRAL = {"compaction_min_rows": 6, "compaction_max_age_minutes": 15}
MAX_STEPS = 4000
LARGEST_CLOCK_ERROR = 240.0


class Simulation:
    """A simulation of one seed. `steps` counts the calls, `faults` the injected faults."""

    def __init__(
        self, environment: Environment, seed: int, actor_set: ActorSet | None = None, *, faults: int = 5
    ) -> None:
        self.seed = seed
        self.steps = 0
        self.faults = 0
        self.events: list[str] = []
        self.written = WrittenDeltas()
        self.chance = random.Random(seed)
        self._actor_set = actor_set or ("rollback" if seed % 3 == 0 else "everybody")
        self._environment = environment
        self._actors: list[Actor] = []
        self._executions: list[SimulatedExecution] = []
        self._priority: dict[Actor, float] = {}
        self._waits: dict[Actor, Callable[[], bool]] = {}
        self._faults_left = 0
        self._max_faults = faults
        self._overtaken = False
        reads_fresh = actor_set in {"fresh reads", "partitions"}
        self.checker = InvariantChecker(environment, self.written, reads_fresh=reads_fresh)
        kept = self.chance.choice((1, 10))
        self._settings: dict[str, object] = {"snapshot_retention_count": kept, "snapshot_retention_days": 0.0001}
        if actor_set == "fresh reads":
            self._settings["pending_deltas"] = self.chance.choice((1, 200, 200, 200))
        self._writes = SMALL_WRITES
        self._faults_a_call = 1.0
        if actor_set == "partitions":
            self._settings |= PARTITIONS | self.chance.choice(({}, {}, DEFERRAL))
            # Half of the simulations write so few rows that directories are joined.
            self._writes = Writes(MANY_IDS, most=self.chance.choice((FEW, 8)), drops=0.03)
            # Passes over partitions make many calls, and most must reach their folds.
            self._faults_a_call = 0.25

    def run(self) -> None:
        """Run all actors to their end, then undisturbed executions, and check the result. Raises AssertionError."""
        try:
            self._publish_first_snapshots()
            self._start_actors()
            self._faults_left = self.chance.randint(1, self._max_faults)
            self._run_until_all_end()
            self._run_quiet_executions()
        finally:
            for actor in self._actors:
                actor.kill()

    def report(self) -> str:
        """Return all events, one per line."""
        return "\n".join(self.events)

    def log(self, text: str) -> None:
        """Add an event."""
        self.events.append(f"{self._environment.clock.now - START:10.1f}s  {text}")

    def start_actor(self, name: str, body: Callable[[Services], Any]) -> Actor:
        """Start another actor in its own sandbox, whose clock may be wrong."""
        sandbox = self._environment.take_sandbox()
        clock_error = self.chance.uniform(-LARGEST_CLOCK_ERROR, LARGEST_CLOCK_ERROR) if self._faults_left else 0.0
        settings = sandbox.services.settings.model_copy(update=self._settings)
        services = sandbox.services._replace(settings=settings)
        actor = Actor(name, sandbox, lambda: body(services), clock_error=clock_error)
        self._priority[actor] = self.chance.random()
        self._actors.append(actor)
        return actor

    def _publish_first_snapshots(self) -> None:
        """Publish a first snapshot, and perhaps a second, before the other actors start."""
        self._environment.reset()
        most = 2 if self._actor_set == "fresh reads" else 1
        for number in range(2 if self._actor_set == "rollback" else self.chance.randint(0, most)):
            self._publish_before(number, SMALL_WRITES)
        if self._actor_set == "partitions":
            self._publish_before(10, self._writes._replace(most=8))
            if self._writes.most == FEW:
                self._publish_before(11, self._writes._replace(clears=True))
            self._start_producer("of what waits", files=3)
            self._run_until_all_end()
        self._executions.clear()
        self._environment.clock.now += 60

    def _publish_before(self, number: int, writes: Writes) -> None:
        self._start_producer(f"before {number}", files=4 if writes.ids == MANY_IDS else 2, writes=writes)
        self._run_until_all_end()
        self._executions = [SimulatedExecution(self, f"E0-{number}")]
        self._run_until_all_end()

    def _start_actors(self) -> None:
        self.log("the actors start")
        chance = self.chance
        self._start_producer("1", files=2)
        self._executions.append(SimulatedExecution(self, "E1"))
        if self._actor_set == "rollback":
            self._start_operator()
            return
        if self._actor_set == "fresh reads":
            self._start_fresh_readers()
            return
        if chance.random() < 0.5:
            self._start_producer("2", files=chance.randint(1, 2))
        if self._actor_set == "partitions":
            self.start_actor("fresh reader", fresh_reader(self.checker, reads=3))
        self.start_actor("reader", reader(self.checker, reads=3))
        if chance.random() < 0.8:
            self._executions.append(second := SimulatedExecution(self, "E2"))
            if second.attempt is not None and chance.random() < 0.7:
                self._waits[second.attempt] = lambda: self._lease_is_available("E2")
        if chance.random() < 0.6:
            self._start_operator()

    def _start_producer(self, name: str, *, files: int, writes: Writes | None = None) -> None:
        body = producer(self.written, self.chance, files=files, writes=writes or self._writes)
        self.start_actor(f"producer {name}", body)

    def _start_fresh_readers(self) -> None:
        chance = self.chance
        self._start_producer("2", files=2)
        for number in range(2):
            self.start_actor(f"fresh reader {number}", fresh_reader(self.checker, reads=4))
        if chance.random() < 0.6:
            self._executions.append(SimulatedExecution(self, "E2"))
        if chance.random() < 0.6:
            self._start_operator()

    def _start_operator(self) -> None:
        actor = self.start_actor("operator", operator(self._environment, self.chance))
        swaps = len(self.checker.swaps) + (self.chance.random() < 0.8)
        self._waits[actor] = lambda: len(self.checker.swaps) >= swaps and self._lease_is_available("me/")

    def _lease_is_available(self, who: str) -> bool:
        """Return whether `who` could take the lease. While another owner holds it, the actor would end at once."""
        lock = self._environment.lock
        if lock is None:
            return True
        return (
            who in lock["owner"]["S"] or int(lock["expires_at"]["N"]) < self._environment.clock() - LARGEST_CLOCK_ERROR
        )

    def _run_until_all_end(self) -> None:
        while ready := [actor for actor in self._actors if not actor.ended]:
            assert self.steps < MAX_STEPS, "this simulation does not end"
            self._maybe_inject_fault(ready)
            self._step(self._next(ready))
            for execution in self._executions:
                execution.proceed()
        self._actors.clear()

    def _next(self, ready: list[Actor]) -> Actor:
        """Return the actor with the highest priority. Now and then that actor first gets the lowest."""
        ready = [actor for actor in ready if actor not in self._waits or self._waits[actor]()] or ready
        if self.chance.random() < 0.06:
            self._deprioritize(max(ready, key=self._rank))
        return max(ready, key=self._rank)

    def _rank(self, actor: Actor) -> float:
        return self._priority[actor]

    def _deprioritize(self, actor: Actor) -> None:
        self._priority[actor] = min(self._priority.values()) - self.chance.random()

    def _step(self, actor: Actor, order: Order = "go") -> None:
        call = actor.next_call
        self._environment.clock.now += 0.05
        self.steps += 1
        before = self.checker.read_state()
        known = len(actor.responses)
        if call is None:
            return
        line = f"{actor.name}: {_describe(call)}"
        lost = order == "go" and self._faults_left and self.chance.random() < 0.01 * self._faults_a_call
        order = self._choose_fault(actor) if lost else order
        actor.resume(order)
        response = actor.responses[known] if len(actor.responses) > known else "no effect"
        self.log(f"{line} -> {response}{'' if order == 'go' else f', but: {order}'}")
        if actor.ended and actor.error is not None:
            self.log(f"{actor.name} ends: {type(actor.error).__name__}: {str(actor.error)[:150]}")
            # Any other error is a failed check of a reader, or a mistake in this suite.
            if not isinstance(actor.error, CompactionError):
                raise actor.error
        self.checker.check(actor.name, before)

    def _choose_fault(self, actor: Actor) -> Order:
        self._faults_left -= 1
        self.faults += 1
        order: Order = self.chance.choice(("lose the response", "refuse", "die"))
        # The design does not cover a clean-up that is overtaken by a rollback and then dies: see the model.
        return "refuse" if actor.has_unchecked_deletes else order

    def _maybe_inject_fault(self, ready: list[Actor]) -> None:
        foremost = max(ready, key=self._rank)
        if not self._overtaken and self._may_be_overtaken(foremost):
            self._overtaken = self.chance.random() < 0.5
            if self._overtaken:
                self._overtake(foremost)
                return
        if self._actor_set == "fresh reads" and foremost.reads_pending and self.chance.random() < 0.2:
            self._deprioritize(foremost)  # what it has read becomes old while others run
        if not self._faults_left or self.chance.random() > 0.02 * self._faults_a_call:
            return
        self._faults_left -= 1
        self.faults += 1
        executions = [each for each in self._executions if each.status == "RUNNING" and each.attempt is not None]
        kinds: list[Callable[[], None]] = [self._expire_lease, self._delete_lock, self._delete_lock]
        if executions:
            execution = self.chance.choice(executions)
            kinds += [lambda: self._abort(execution), lambda: self._retry(execution)]
        self.chance.choice(kinds)()
        if self.chance.random() < 0.8:
            # Slow down the actor that lost the lease, so that others run in between.
            self._deprioritize(foremost)

    def _may_be_overtaken(self, actor: Actor) -> bool:
        """Return whether the most can be lost if this actor loses its lease now, and is slow."""
        if self._actor_set == "partitions":
            return actor.is_about_to_delete or actor.stores_a_fold
        return self._actor_set == "rollback" and actor.is_about_to_delete

    def _overtake(self, actor: Actor) -> None:
        """Let a rollback or an execution overtake a clean-up or a fold, or another attempt overtake a fold."""
        self.faults += 1
        again = actor.stores_a_fold and self.chance.random() < 0.6
        if again and any(execution.retry_item(actor) for execution in self._executions):
            self.log(f"{actor.name} is retried while it still runs")
        else:
            self.chance.choice((self._expire_lease, self._delete_lock))()
        self._deprioritize(actor)
        if self._actor_set == "partitions":
            swaps = len(self.checker.swaps)
            self._waits[actor] = lambda: len(self.checker.swaps) > swaps

    def _expire_lease(self) -> None:
        self.log("25 minutes pass, and the lease expires")
        self._environment.clock.now += LEASE_SECONDS + 600

    def _delete_lock(self) -> None:
        self.log("somebody deletes the lock item by hand")
        self._environment.delete_lock()

    def _abort(self, execution: SimulatedExecution) -> None:
        self.log(f"{execution.name} is aborted while its task still runs")
        execution.abort()

    def _retry(self, execution: SimulatedExecution) -> None:
        self.log(f"{execution.name} retries its task while the first attempt still runs")
        execution.retry()

    def _run_quiet_executions(self) -> None:
        self.log("all actors have ended; undisturbed executions follow")
        self._faults_left = 0
        self.checker.check_at_the_end()
        self._environment.clock.now += LEASE_SECONDS + 600
        for number in range(2):
            self._executions = [quiet := SimulatedExecution(self, f"quiet-{number}")]
            self._run_until_all_end()
            assert quiet.status == "SUCCEEDED", f"an undisturbed execution is {quiet.status}"
        self.checker.check_after_quiet()


def _describe(call: Call) -> str:
    source = text_header(call.request, "x-amz-copy-source")
    target = f"{source.removeprefix('bucket/')} to {call.target}" if source else call.target
    return f"{call.operation} {target}"
