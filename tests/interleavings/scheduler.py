"""Actors that each stop before every call to AWS, and the one who says who goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from tests.fakes.aws.in_process import Perform
from tests.fakes.aws.protocol import Answer, Call, Refusal, refused
from tests.interleavings.stage import Seat

Order = Literal["go", "lose the answer", "refuse", "die"]
PATIENCE_SECONDS = 120


class HungError(AssertionError):
    """An actor neither ended nor called AWS."""


class Actor:
    """Runs `body` in a thread of its own, and waits there before each call until it is told to go on.

    An actor that dies has no effect on AWS any more: all its calls fail, so that its thread unwinds.
    """

    def __init__(self, name: str, seat: Seat, body: Callable[[], Any], *, wrong: float = 0.0) -> None:
        self.name = name
        self.next_call: Call | None = None
        self.ended = False
        self.died = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.story: list[str] = []
        self.calls: list[str] = []
        self._body = body
        self._order: Order = "go"
        self._go = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)
        seat.sit_down(self._intercept, wrong)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._wait()

    def go_on(self, order: Order = "go") -> None:
        """Make the call that it waits with, and go on to the next or to the end."""
        self._order = order
        self.died = self.died or order == "die"
        self._go.release()
        self._wait()

    def leave(self) -> None:
        """Die, if it has not ended: whatever it still waits with would keep this process from ending."""
        while not self.ended:
            self.go_on("die")

    @property
    def looks_back(self) -> bool:
        """Say whether it is a clean-up that has deleted, and has not yet looked whether it should have."""
        if "DeleteObjects" not in self.calls or not any(task in self.name for task in ("CleanUp", "ListDeltas")):
            return False
        return "ReceiveMessage" not in self.calls

    def _wait(self) -> None:
        if not self._arrived.acquire(timeout=PATIENCE_SECONDS):
            raise HungError(self.name)
        if self.ended:
            self._thread.join()

    def _run(self) -> None:
        try:
            self.result = self._body()
        except Exception as error:  # noqa: BLE001 - whoever plays the state machine decides what it means
            self.error = error
        self.next_call = None
        self.ended = True
        self._arrived.release()

    def _intercept(self, call: Call, perform: Perform) -> Answer:
        if self.died:
            raise ConnectTimeoutError(endpoint_url=call.request.url)
        self.next_call = call
        self._arrived.release()
        self._go.acquire()
        return self._carry_out(call, perform)

    def _carry_out(self, call: Call, perform: Perform) -> Answer:
        order, self._order = self._order, "go"
        if order == "die":
            raise ConnectTimeoutError(endpoint_url=call.request.url)
        if order == "refuse":
            return refused(call, Refusal(503, "SlowDown"))
        answer = perform()
        self.calls.append(call.operation)
        self.story.append(str(answer.status))
        if order == "lose the answer":
            raise ReadTimeoutError(endpoint_url=call.request.url)
        return answer
