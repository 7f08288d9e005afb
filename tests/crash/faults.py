"""The faults of one call to AWS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from botocore.exceptions import ReadTimeoutError

from chromadb_compaction import layout
from tests.crash.rollbacks import roll_back
from tests.crash.state_machine import Ended, Step
from tests.crash.world import AfterKill, World
from tests.fakes.aws.in_process import Perform
from tests.fakes.aws.protocol import Answer, Call, Refusal, answer_json, refused
from tests.fakes.aws.s3 import keys_to_delete, refused_key

ATTEMPTS = 6
"""The times that botocore, as the product configures it, sends a request."""
ATTEMPTS_TO_READ = 18
"""The product also reads an object three times, because a body may be cut short."""

Effect = Callable[[World, Call, Perform], Answer]
Absorber = Literal["task", "execution", "nobody"]
"""The task must succeed despite the fault, or the execution must by retrying it, or both may fail."""


class FaultKind(NamedTuple):
    """A kind of fault. It `lasts` for one or more requests; `absorbed_by` must succeed despite it."""

    name: str
    effect: Effect
    lasts: str = "once"
    absorbed_by: Absorber = "nobody"
    applies_to: Callable[[Call], bool] = lambda _call: True
    """Returns whether a call can have this fault."""


class InjectedFault:
    """A fault of this kind at the call with this number, counted from 0 and from now."""

    def __init__(self, kind: FaultKind, number: int) -> None:
        self._kind = kind
        self._left = number
        self._hit: Call | None = None
        self._times = 0

    @property
    def has_happened(self) -> bool:
        """Return whether the call was made."""
        return self._hit is not None

    @property
    def is_over(self) -> bool:
        """Return whether it has happened and affects no later call."""
        needed = {"once": 1, "for the whole call": self._attempts}
        return self._times >= needed.get(self._kind.lasts, self._times + 1)

    @property
    def _attempts(self) -> int:
        return ATTEMPTS_TO_READ if self._hit and self._hit.operation == "GetObject" else ATTEMPTS

    def __call__(self, world: World, call: Call, perform: Perform) -> Answer:
        """Perform the call, with the fault if it is affected."""
        if self._hit is None:
            self._left -= 1
            if self._left >= 0:
                return perform()
            self._hit = call
        elif not self._is_affected(call):
            return perform()
        self._times += 1
        return self._kind.effect(world, call, perform)

    def _is_affected(self, call: Call) -> bool:
        hit = self._hit
        same = hit is not None and (call.service, call.operation) == (hit.service, hit.operation)
        if self._kind.lasts == "for the whole call":
            return same and hit is not None and call.target == hit.target and self._times < self._attempts
        return same and self._kind.lasts == "for the rest of the execution"


def _crash(then: AfterKill, *, after: bool) -> Effect:
    def effect(world: World, call: Call, perform: Perform) -> Answer:
        if after:
            perform()
        raise world.kill(then)

    return effect


def _lose_response(_world: World, call: Call, perform: Perform) -> Answer:
    perform()
    raise ReadTimeoutError(endpoint_url=call.request.url)


def _throttle(_world: World, call: Call, _perform: Perform) -> Answer:
    code = {"s3": (503, "SlowDown"), "dynamodb": (400, "ProvisionedThroughputExceededException")}
    return refused(call, Refusal(*code.get(call.service, (400, "ThrottlingException"))))


def _fail(_world: World, call: Call, _perform: Perform) -> Answer:
    return refused(call, Refusal(500, "InternalError"))


def _cut_short(_world: World, call: Call, perform: Perform) -> Answer:
    answer = perform()
    size = len(answer.body)
    return answer._replace(headers={**answer.headers, "content-length": str(size)}, body=answer.body[: size // 2])


def _refuse_one(world: World, call: Call, perform: Perform) -> Answer:
    """Let a bulk call fail for one entry, which the successful response reports."""
    if call.service == "s3":
        objects = world.aws.s3.buckets.objects["bucket"]
        key = min(keys_to_delete(call))
        kept = objects.get(key)
        answer = perform()
        if kept:
            objects[key] = kept
        return answer._replace(body=answer.body.replace(b"</DeleteResult>", refused_key(key) + b"</DeleteResult>"))
    request = json.loads(call.body)
    messages = world.aws.sqs.queues.messages[call.target]
    before = dict(messages)
    first = json.loads(perform().body)["Successful"][0]
    # Restore a deleted message, or delete a new one.
    deleted, added = before.keys() - messages.keys(), messages.keys() - before.keys()
    messages.update({name: before[name] for name in sorted(deleted)[:1]})
    for name in sorted(added)[:1]:
        del messages[name]
    done = [entry for entry in request["Entries"] if entry["Id"] != first["Id"]]
    failed = {"Id": first["Id"], "SenderFault": False, "Code": "InternalError"}
    successful = [{"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "0" * 32} for entry in done]
    return answer_json({"Successful": successful, "Failed": [failed]})


def _refuse_swap(status: int, code: str, *, after: bool) -> Effect:
    def effect(_world: World, call: Call, perform: Perform) -> Answer:
        if after:
            perform()
        return refused(call, Refusal(status, code))

    return effect


def _overtaken(world: World, _call: Call, perform: Perform) -> Answer:
    """Stall until the lease has expired and another execution has ended."""
    world.clock.tick(world.settings.lease_seconds + 60)
    with world.other_process():
        world.run("overtaking")
    return perform()


def _overtaken_midway(world: World, _call: Call, perform: Perform) -> Answer:
    """Stall until the lease has expired and another execution holds it, has published and stalls too."""
    world.clock.tick(world.settings.lease_seconds + 60)
    with world.other_process():
        step: Step | Ended = world.machine.start()
        while isinstance(step, Step) and step.state != "CleanUp":
            step = world.advance(step, "overtaking")
    return perform()


def _overtaken_by_a_rollback(world: World, _call: Call, perform: Perform) -> Answer:
    """Stall until the lease has expired and an operator has rolled back, with replay."""
    world.clock.tick(world.settings.lease_seconds + 60)
    with world.other_process():
        roll_back(world, "operator:me@here/overtaking")
    return perform()


CONFLICT = "ConditionalRequestConflict"


def _is_in_bulk(call: Call) -> bool:
    return call.operation in {"DeleteObjects", "DeleteMessageBatch", "SendMessageBatch"}


def _is_read(call: Call) -> bool:
    return call.operation == "GetObject"


def _swaps(call: Call) -> bool:
    return call.operation == "PutObject" and call.target == layout.pointer_key()


def _deletes(call: Call) -> bool:
    return call.operation == "DeleteObjects"


def _crashes() -> Iterator[FaultKind]:
    for time in ("before", "after"):
        for then in ("caught", "retried", "dies"):
            yield FaultKind(
                f"crash {time}, {then}",
                _crash(then, after=time == "after"),
                absorbed_by="execution" if then == "retried" else "nobody",
            )


KINDS = (
    *_crashes(),
    FaultKind("response lost", _lose_response, absorbed_by="task"),
    FaultKind("responses lost", _lose_response, "for the whole call", "execution"),
    FaultKind("throttled", _throttle, absorbed_by="task"),
    FaultKind("throttled for good", _throttle, "for the rest of the execution"),
    FaultKind("500", _fail, absorbed_by="task"),
    FaultKind("500 until given up", _fail, "for the whole call", "execution"),
    FaultKind("cut short", _cut_short, absorbed_by="task", applies_to=_is_read),
    FaultKind("one of many refused", _refuse_one, absorbed_by="execution", applies_to=_is_in_bulk),
    FaultKind("overtaken", _overtaken),
    FaultKind("overtaken midway", _overtaken_midway),
    FaultKind("overtaken by a rollback", _overtaken_by_a_rollback, applies_to=_deletes),
    FaultKind("409", _refuse_swap(409, CONFLICT, after=False), absorbed_by="task", applies_to=_swaps),
    FaultKind("409 after success", _refuse_swap(409, CONFLICT, after=True), absorbed_by="task", applies_to=_swaps),
    FaultKind("412", _refuse_swap(412, "PreconditionFailed", after=False), absorbed_by="task", applies_to=_swaps),
    FaultKind(
        "412 after success", _refuse_swap(412, "PreconditionFailed", after=True), absorbed_by="task", applies_to=_swaps
    ),
)


def kinds_for(call: Call) -> Iterator[FaultKind]:
    """Yield every kind of fault that the call can have."""
    return (kind for kind in KINDS if kind.applies_to(call))
