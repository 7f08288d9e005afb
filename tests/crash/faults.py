"""What can befall one call to AWS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from botocore.exceptions import ReadTimeoutError

from chromadb_compaction import layout
from tests.crash.machine import Ended, Step
from tests.crash.rollbacks import roll_back
from tests.crash.world import Then, World
from tests.fakes.aws.in_process import Perform
from tests.fakes.aws.protocol import Answer, Call, Refusal, answer_json, refused
from tests.fakes.aws.s3 import keys_to_delete, refused_key

ATTEMPTS = 6
"""How often botocore, as the product configures it, sends one request."""
ATTEMPTS_TO_READ = 18
"""The product itself reads an object three times before it gives up, as a body may break off."""

Effect = Callable[[World, Call, Perform], Answer]
Absorbed = Literal["task", "execution", "nobody"]
"""The task itself must go on to its end, or the execution must by trying the task again; or either may fail."""


class Kind(NamedTuple):
    """A kind of fault. `lasts` says which later requests suffer it too, `absorbed` who must make up for it."""

    name: str
    effect: Effect
    lasts: str = "once"
    absorbed: Absorbed = "nobody"
    befalls: Callable[[Call], bool] = lambda _call: True
    """Says whether this can befall a call."""


class Injected:
    """Lets a fault of this kind befall the call number `number` from now, counted from 0."""

    def __init__(self, kind: Kind, number: int) -> None:
        self._kind = kind
        self._left = number
        self._hit: Call | None = None
        self._times = 0

    @property
    def happened(self) -> bool:
        """Say whether the call was ever made."""
        return self._hit is not None

    @property
    def spent(self) -> bool:
        """Say whether it has happened, and can no longer matter."""
        needed = {"once": 1, "for the whole call": self._attempts}
        return self._times >= needed.get(self._kind.lasts, self._times + 1)

    @property
    def _attempts(self) -> int:
        return ATTEMPTS_TO_READ if self._hit and self._hit.operation == "GetObject" else ATTEMPTS

    def __call__(self, world: World, call: Call, perform: Perform) -> Answer:
        """Let the call be, or not."""
        if self._hit is None:
            self._left -= 1
            if self._left >= 0:
                return perform()
            self._hit = call
        elif not self._suffers(call):
            return perform()
        self._times += 1
        return self._kind.effect(world, call, perform)

    def _suffers(self, call: Call) -> bool:
        hit = self._hit
        same = hit is not None and (call.service, call.operation) == (hit.service, hit.operation)
        if self._kind.lasts == "for the whole call":
            return same and hit is not None and call.target == hit.target and self._times < self._attempts
        return same and self._kind.lasts == "for the rest of the execution"


def _crash(then: Then, *, after: bool) -> Effect:
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
    """Let the service do all that was asked in bulk but one, and say so within an answer that is no error."""
    if call.service == "s3":
        held = world.aws.s3.buckets.objects["bucket"]
        key = min(keys_to_delete(call))
        kept = held.get(key)
        answer = perform()
        if kept:
            held[key] = kept
        return answer._replace(body=answer.body.replace(b"</DeleteResult>", refused_key(key) + b"</DeleteResult>"))
    asked = json.loads(call.body)
    messages = world.aws.sqs.queues.messages[call.target]
    before = dict(messages)
    first = json.loads(perform().body)["Successful"][0]
    # A message that should have gone is still there; one that should have come is not.
    gone, come = before.keys() - messages.keys(), messages.keys() - before.keys()
    messages.update({name: before[name] for name in sorted(gone)[:1]})
    for name in sorted(come)[:1]:
        del messages[name]
    done = [entry for entry in asked["Entries"] if entry["Id"] != first["Id"]]
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
    """Stall until the lease has expired and another execution has come and gone."""
    world.clock.tick(world.settings.lease_seconds + 60)
    with world.elsewhere():
        world.run("overtaking")
    return perform()


def _overtaken_midway(world: World, _call: Call, perform: Perform) -> Answer:
    """Stall until the lease has expired and another execution holds it, has published, and stalls in its turn."""
    world.clock.tick(world.settings.lease_seconds + 60)
    with world.elsewhere():
        step: Step | Ended = world.machine.start()
        while isinstance(step, Step) and step.state != "CleanUp":
            step = world.advance(step, "overtaking")
    return perform()


def _overtaken_by_a_rollback(world: World, _call: Call, perform: Perform) -> Answer:
    """Stall until the lease has expired and an operator has rolled back, with replay."""
    world.clock.tick(world.settings.lease_seconds + 60)
    with world.elsewhere():
        roll_back(world, "operator:me@here/overtaking")
    return perform()


CONFLICT = "ConditionalRequestConflict"


def _is_in_bulk(call: Call) -> bool:
    return call.operation in {"DeleteObjects", "DeleteMessageBatch", "SendMessageBatch"}


def _is_read(call: Call) -> bool:
    return call.operation == "GetObject"


def _swaps(call: Call) -> bool:
    return call.operation == "PutObject" and call.target == layout.pointer_key()


def _takes_away(call: Call) -> bool:
    return call.operation == "DeleteObjects"


def _crashes() -> Iterator[Kind]:
    for moment in ("before", "after"):
        for then in ("caught", "retried", "dies"):
            yield Kind(
                f"crash {moment}, {then}",
                _crash(then, after=moment == "after"),
                absorbed="execution" if then == "retried" else "nobody",
            )


KINDS = (
    *_crashes(),
    Kind("response lost", _lose_response, absorbed="task"),
    Kind("responses lost", _lose_response, "for the whole call", "execution"),
    Kind("throttled", _throttle, absorbed="task"),
    Kind("throttled for good", _throttle, "for the rest of the execution"),
    Kind("500", _fail, absorbed="task"),
    Kind("500 until given up", _fail, "for the whole call", "execution"),
    Kind("cut short", _cut_short, absorbed="task", befalls=_is_read),
    Kind("one of many refused", _refuse_one, absorbed="execution", befalls=_is_in_bulk),
    Kind("overtaken", _overtaken),
    Kind("overtaken midway", _overtaken_midway),
    Kind("overtaken by a rollback", _overtaken_by_a_rollback, befalls=_takes_away),
    Kind("409", _refuse_swap(409, CONFLICT, after=False), absorbed="task", befalls=_swaps),
    Kind("409 after success", _refuse_swap(409, CONFLICT, after=True), absorbed="task", befalls=_swaps),
    Kind("412", _refuse_swap(412, "PreconditionFailed", after=False), absorbed="task", befalls=_swaps),
    Kind("412 after success", _refuse_swap(412, "PreconditionFailed", after=True), absorbed="task", befalls=_swaps),
)


def kinds_for(call: Call) -> Iterator[Kind]:
    """Yield every kind of fault that can befall the call."""
    return (kind for kind in KINDS if kind.befalls(call))
