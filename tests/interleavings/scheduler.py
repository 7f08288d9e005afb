"""Actors that pause before every call to AWS until the simulation resumes them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from chromadb_compaction import layout
from tests.fakes.aws.in_process import Perform
from tests.fakes.aws.protocol import Answer, Call, Refusal, refused
from tests.interleavings.environment import Sandbox

Order = Literal["go", "lose the response", "refuse", "die"]
HANG_SECONDS = 120


class HungError(AssertionError):
    """An actor neither ended nor called AWS in time."""


class Actor:
    """A thread that runs `body` and pauses before each call to AWS until `resume`.

    The calls of a dead actor fail without effect, so that its thread ends.
    """

    def __init__(self, name: str, sandbox: Sandbox, body: Callable[[], Any], *, clock_error: float = 0.0) -> None:
        self.name = name
        self.next_call: Call | None = None
        self.ended = False
        self.died = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.responses: list[str] = []
        self.calls: list[str] = []
        self._body = body
        self._order: Order = "go"
        self._go = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)
        sandbox.assign(self._intercept, clock_error)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._wait()

    def resume(self, order: Order = "go") -> None:
        """Let the paused call proceed, and return at the next call or at the end."""
        self._order = order
        self.died = self.died or order == "die"
        self._go.release()
        self._wait()

    def kill(self) -> None:
        """End the thread. A paused thread would keep the process from exiting."""
        while not self.ended:
            self.resume("die")

    @property
    def has_unchecked_deletes(self) -> bool:
        """Return whether this is a clean-up that has deleted deltas and has not yet checked the pointer again."""
        if "DeleteObjects" not in self.calls or not any(task in self.name for task in ("CleanUp", "ListDeltas")):
            return False
        return "ReceiveMessage" not in self.calls

    @property
    def is_about_to_delete(self) -> bool:
        """Return whether this is the clean-up of E1, and its next call deletes."""
        return "E1 CleanUp" in self.name and self.next_call is not None and self.next_call.operation == "DeleteObjects"

    @property
    def stores_a_fold(self) -> bool:
        """Return whether its next call writes a file of a fold of FoldPartitions, or its part of the manifest."""
        call = self.next_call
        if call is None or not call.writes or not self.name.startswith(("E1 FoldPartition", "E2 FoldPartition")):
            return False
        return call.target.startswith("snapshot/") or "/folds/" in call.target

    @property
    def reads_pending(self) -> bool:
        """Return whether this is a fresh reader that has listed the pending deltas, and now reads one, or the pointer.

        Then what it has listed may become old.
        """
        if self.next_call is None or not self.name.startswith("fresh reader"):
            return False
        target = self.next_call.target
        has_just_listed = self.calls[-1:] == ["ListObjectsV2"] and target == layout.pointer_key()
        return has_just_listed or target.startswith("delta/")

    def _wait(self) -> None:
        if not self._arrived.acquire(timeout=HANG_SECONDS):
            raise HungError(self.name)
        if self.ended:
            self._thread.join()

    def _run(self) -> None:
        try:
            self.result = self._body()
        except Exception as error:  # noqa: BLE001 - the simulated execution handles it
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
        self.responses.append(str(answer.status))
        if order == "lose the response":
            raise ReadTimeoutError(endpoint_url=call.request.url)
        return answer
